//! Prices and what a call costs by them. Prices are the operator's, not looked up anywhere.

use std::collections::HashMap;

use audit::usage::{pico_usd, usd};

/// Tokens that a price is for.
const TOKENS_PER_PRICE: f64 = 1_000_000.0;
/// What a model costs that nobody priced, in US dollars per million tokens of the total.
pub(crate) const DEFAULT_USD_PER_MILLION_TOKENS: f64 = 5.0;

/// Price of one model, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Price {
    /// One price per million tokens of the total.
    Total(f64),
    /// Prices per million tokens of the prompt and of the answer.
    InputOutput {
        /// Per million tokens of the prompt.
        input: f64,
        /// Per million tokens of the answer.
        output: f64,
    },
}

/// Prices by model.
#[derive(Clone, Debug, PartialEq)]
pub struct Pricing {
    default: Price,
    models: HashMap<String, Price>,
}

impl Pricing {
    /// Prices of single models, and the one for all others.
    pub fn new(default: Price, models: HashMap<String, Price>) -> Self {
        Self { default, models }
    }

    /// Cost in US dollars of a call, from token counts as the upstream reports them. `total` may exceed the sum of
    /// the other two (providers count reasoning there); only a price on the total sees it.
    pub fn cost_usd(&self, model: &str, prompt: u64, completion: u64, total: u64) -> f64 {
        // Exact up to 2^53 tokens.
        let cost = |tokens: u64, price: f64| tokens as f64 * price / TOKENS_PER_PRICE;
        let cost_usd = match self.models.get(model).copied().unwrap_or(self.default) {
            Price::Total(price) => cost(total, price),
            Price::InputOutput { input, output } => cost(prompt, input) + cost(completion, output),
        };
        // What the sums of usage add up: whole picodollars.
        usd(pico_usd(cost_usd))
    }
}

impl Default for Pricing {
    fn default() -> Self {
        Self::new(Price::Total(DEFAULT_USD_PER_MILLION_TOKENS), HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bills_the_total_and_a_model_its_own_prices() {
        let own = Price::InputOutput { input: 2.0, output: 8.0 };
        let pricing = Pricing::new(Price::Total(5.0), HashMap::from([("small".to_owned(), own)]));
        assert!((pricing.cost_usd("large", 400_000, 500_000, 1_000_000) - 5.0).abs() < 1e-12);
        assert!((pricing.cost_usd("small", 500_000, 250_000, 9_999_999) - 3.0).abs() < 1e-12);
        assert!(pricing.cost_usd("small", 0, 0, 0).abs() < 1e-12);
        assert!((Pricing::default().cost_usd("any", 0, 0, 2_000_000) - 10.0).abs() < 1e-12);
    }

    #[test]
    fn a_cost_is_the_number_that_people_would_write() {
        let own = Price::InputOutput { input: 0.15, output: 0.6 };
        let pricing = Pricing::new(Price::Total(0.1), HashMap::from([("small".to_owned(), own)]));
        assert_eq!(pricing.cost_usd("any", 0, 0, 3).to_string(), "0.0000003");
        assert_eq!(pricing.cost_usd("small", 7, 11, 18).to_string(), "0.00000765");
    }
}
