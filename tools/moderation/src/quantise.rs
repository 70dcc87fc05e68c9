//! From trained weights to the bytes of a table: which features find room, and their weights as steps of one byte.

use std::borrow::Cow;

use anyhow::Result;
use moderation::{Category, LANES, Mode, Table, TableParts, lane_category};

use crate::calibrate::Calibration;
use crate::model::{Model, Settings};
use crate::samples::Dictionary;

/// The share of weights that a lane's scale reaches; larger ones are cut.
const REACH: f64 = 0.9997;

/// Features by falling importance: what their weights can move, more if many rows have them.
fn order(model: &Model, dictionary: &Dictionary) -> Vec<u32> {
    let importance = |number: &u32| -> f32 {
        let at = *number as usize;
        let size: f32 = model.weights[at].iter().map(|weight| weight * weight).sum();
        size.sqrt() * (1.0 + dictionary.rows[at] as f32).ln()
    };
    let mut numbers: Vec<u32> = (0..dictionary.features.len() as u32).collect();
    numbers.sort_by(|a, b| importance(b).total_cmp(&importance(a)).then(a.cmp(b)));
    numbers
}

/// The features that find room in a table.
pub fn fitting(model: &Model, dictionary: &Dictionary) -> Vec<u32> {
    let order = order(model, dictionary);
    let slots = order.iter().map(|number| (dictionary.features[*number as usize], [1; LANES]));
    let (_, placed) = parts("", &Model::new(0), 0.5, 0.0, &[1.0; LANES], None).encode(slots);
    order.into_iter().zip(placed).filter(|(_, placed)| *placed).map(|(number, _)| number).collect()
}

pub fn table(
    model: &Model,
    dictionary: &Dictionary,
    settings: &Settings,
    version: &str,
    calibration: Option<&Calibration>,
) -> Result<Vec<u8>> {
    let mut scale = [0.0; LANES];
    for (lane, scale) in scale.iter_mut().enumerate() {
        let mut sizes: Vec<f32> = model.weights.iter().map(|weights| weights[lane].abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let reach = sizes.get((sizes.len() as f64 * REACH) as usize).copied().unwrap_or(1.0);
        *scale = reach.max(1e-6) / 127.0;
    }
    let parts = parts(version, model, settings.whole, settings.parents, &scale, calibration);
    let slots = order(model, dictionary).into_iter().map(|number| {
        let weights = &model.weights[number as usize];
        let steps: [i8; LANES] =
            std::array::from_fn(|lane| (weights[lane] / scale[lane]).round().clamp(-127.0, 127.0) as i8);
        (dictionary.features[number as usize], steps)
    });
    let (bytes, _) = parts.encode(slots);
    Table::read(Cow::Borrowed(bytes.as_slice()).into_owned().into())?;
    Ok(bytes)
}

fn parts(
    version: &str,
    model: &Model,
    whole: f32,
    parents: f32,
    scale: &[f32; LANES],
    calibration: Option<&Calibration>,
) -> TableParts {
    let none = Calibration::none();
    let calibration = calibration.unwrap_or(&none);
    TableParts {
        version: version.to_owned(),
        whole,
        scale: *scale,
        bias: std::array::from_fn(|lane| model.bias[lane]),
        thresholds: calibration.thresholds,
        modes: std::array::from_fn(|at| if calibration.block[at] { Mode::Block } else { Mode::Log }),
        parents: std::array::from_fn(|lane| match lane_category(lane) {
            Some(category) if Category::parent(category).is_some() => parents,
            _ => 0.0,
        }),
        slope: calibration.slope,
        offset: calibration.offset,
    }
}
