//! What a generator makes of noise, as images on a sheet.

use chainrule::execute::compile;
use chainrule::tensor::{Key, Tensor, concat};
use chainrule::tree;

use super::{Experiment, ExperimentError};
use crate::data::Sheet;
use crate::model::{Form, GanTask, Network};
use crate::run::RunFolder;
use crate::trainer::TrainError;

/// The folder of samples in a run folder.
pub const SAMPLES: &str = "samples";

/// Images of a sheet that is written while a generator trains.
const WATCHED: usize = 64;
/// Examples that are made at once.
const PIECE: usize = 512;

impl Experiment {
    /// So many examples that a trained network makes; the seed decides the noise.
    ///
    /// # Errors
    /// If the network has no generator.
    pub fn sample(&self, network: &Network, count: usize, seed: u64) -> Result<Tensor, ExperimentError> {
        let parts = network.parts();
        let Some((_, generator)) = parts.first().filter(|_| network.form() == Form::Gan) else {
            return Err(ExperimentError::Setting(
                "the network has no generator: samples are made by models of kind = \"gan\"".into(),
            ));
        };
        Ok(made(&self.spec().gan(), generator, count, seed)?)
    }

    /// The sheet that shows how far a generator is: the same noise each time, so that one sees it learn. Nothing is
    /// written where examples are no images.
    pub(super) fn watch_generator(
        &self,
        run: &RunFolder,
        task: &GanTask,
        generator: &Network,
        step: u64,
    ) -> Result<(), ExperimentError> {
        if self.example().inputs.first().is_some_and(|input| input.shape.len() == 3) {
            let sheet = sheet(&made(task, generator, WATCHED, 0)?)?;
            run.write_artefact(&format!("{SAMPLES}/step-{step:06}.png"), &sheet.png()?)?;
        }
        Ok(())
    }
}

/// Up to a piece by the seed's key itself; of more, each piece by a key of its own.
fn made(task: &GanTask, generator: &Network, count: usize, seed: u64) -> Result<Tensor, TrainError> {
    let whole = |tensor: &Tensor| tensor.clone();
    if count <= PIECE {
        let mut make = compile(|generator: &Network| task.sample(generator, count, &Key::new(seed)));
        return Ok(make.run(tree::map(generator, whole))?);
    }
    let mut make =
        compile(|(generator, piece): &(Network, Tensor)| task.sample(generator, PIECE, &Key::new(seed).fold(piece)));
    let pieces = 0..count.div_ceil(PIECE) as i64;
    let made = pieces.map(|piece| make.run((tree::map(generator, whole), Tensor::from(piece))));
    Ok(concat(&made.collect::<Result<Vec<_>, _>>()?, 0).narrow(0, 0, count).eval())
}

/// Images `[n, channels, height, width]` on a sheet as square as can be, from black at 0 or at −1 to white at 1, or over
/// the range they have if that is wider.
///
/// # Errors
/// If that is not what they are.
pub fn sheet(images: &Tensor) -> Result<Sheet, ExperimentError> {
    let columns = (1..).find(|n| n * n >= images.size(0)).unwrap_or(1);
    let range = |low: f32, high: f32| {
        images.greater_equal(f64::from(low)).and(images.less_equal(f64::from(high))).all(..).item::<bool>()
    };
    let usual = [(0.0, 1.0), (-1.0, 1.0)].into_iter().find(|&(low, high)| range(low, high));
    let whole = || (images.min(..).item::<f32>(), images.max(..).item::<f32>());
    Ok(Sheet::grid(images, columns, usual.unwrap_or_else(whole))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_square_and_black_is_the_lowest() {
        let images = Tensor::from_vec(vec![-1.0f32, 0.0, 1.0, 0.5, -0.5], [5, 1, 1, 1]);
        let page = sheet(&images).unwrap();
        // Three columns of two rows; four images make a square.
        assert!(page.width > page.height);
        let square = sheet(&images.narrow(0, 0, 4).eval()).unwrap();
        assert_eq!((square.width, square.height), (page.height, page.height));
        let middle = 3 * (page.width * 10 + 10);
        assert_eq!(page.rgb[middle], 0);
        assert_eq!(sheet(&(images * 0.5 + 0.5).eval()).unwrap().rgb, page.rgb);
        assert!(sheet(&Tensor::from_vec(vec![1.0f32, 2.0], [1, 2])).is_err());
    }
}
