//! `chainrule sharpness`: how curved the loss is.

use chainrule::prelude::{Key, Tensor};
use chainrule_lens::{Curvature, curvature};
use chainrule_train::model::Network;
use serde::Serialize;

use super::subject::{Looked, Subject};
use crate::outcome::{self, Failure, Outcome};

/// Say how sharp the loss is: eigenvalues, trace, spectrum and a slice
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chainrule sharpness digits-mlp
  chainrule sharpness runs/digits-mlp-1 --spectrum
  chainrule sharpness digits-mlp --slice --json")]
pub struct SharpnessArgs {
    #[command(flatten)]
    looked: Looked,
    /// Also show the distribution of eigenvalues
    #[arg(long)]
    spectrum: bool,
    /// Also show the loss over a plane of two random directions
    #[arg(long)]
    slice: bool,
}

/// Runs `sharpness`.
pub fn run(arguments: SharpnessArgs) -> Outcome {
    #[derive(Serialize)]
    struct Report {
        sharpness: chainrule_lens::Sharpness,
        spectrum: Option<curvature::Spectrum>,
        slice: Option<curvature::Slice>,
    }
    let subject = Subject::open(&arguments.looked)?;
    let loss = |network: &Network| subject.loss(network);
    if !loss(&subject.network).to_f64().is_finite() {
        return Err(Failure::work("the loss is not finite; chainrule doctor says where from"));
    }
    let mut curved = Curvature::new(loss, &subject.network).with_seed(arguments.looked.seed);
    let directions = || {
        let key = Key::new(arguments.looked.seed);
        [1i64, 2].map(|i| curvature::filter_direction(&subject.network, &key.fold(&Tensor::from(i))))
    };
    let report = Report {
        sharpness: curved.sharpness(),
        spectrum: arguments.spectrum.then(|| curved.spectrum(4, 40)),
        slice: arguments.slice.then(|| {
            let [first, second] = directions();
            curvature::slice_plane(loss, &subject.network, [&first, &second], 1.0, 25)
        }),
    };
    if arguments.looked.json {
        return outcome::print_json(&report);
    }
    let mut text = report.sharpness.to_string();
    let more = [report.spectrum.map(|s| s.to_string()), report.slice.map(|s| s.to_string())];
    more.into_iter().flatten().for_each(|part| text.push_str(&format!("\n\n{part}")));
    subject.print(text)
}
