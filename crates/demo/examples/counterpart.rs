//! Runs the demo model or the demo intake alone, on a free port, until interrupted: for trying clients
//! against them without the rest. `cargo run -p demo --example counterpart -- model`.

use std::io::{self, Write};

use demo::intake::{Intake, IntakeOptions};
use demo::model::{Model, ModelOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let what = std::env::args().nth(1).unwrap_or_default();
    match what.as_str() {
        "model" => {
            let model = Model::start(ModelOptions::default()).await?;
            writeln!(io::stdout(), "listening on http://{}", model.addr())?;
            tokio::signal::ctrl_c().await?;
            model.shutdown().await;
        }
        "intake" => {
            let intake = Intake::start(IntakeOptions::default()).await?;
            writeln!(io::stdout(), "listening on http://{}", intake.addr())?;
            tokio::signal::ctrl_c().await?;
            intake.shutdown().await;
        }
        _ => writeln!(io::stderr(), "usage: counterpart model | intake")?,
    }
    Ok(())
}
