//! Draws training curves as PNG and SVG: panels one above the other that share the axis of steps.
//!
//! `layout` turns a [`Chart`] into marks on a page; `svg` and `png` write the marks. Nothing is hidden on the way: where a
//! curve stops being finite, the panel says at which step.

mod axis;
mod font;
mod heat;
mod layout;
mod png;
mod svg;

use thiserror::Error;

use crate::task::{GRADIENT_NORM, Metric};
use crate::trainer::Record;

/// A chart that cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CurvesError {
    /// The picture would have more pixels than memory is given to.
    #[error("a picture of {width}×{height} pixels is too large, {max} on a side are drawn; use fewer panels, or SVG")]
    TooLarge {
        /// Pixels across.
        width: u64,
        /// Pixels down.
        height: u64,
        /// The most on either side.
        max: u32,
    },
}

/// How the values of a panel are spread over its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Logarithmic where all values are positive and the largest is more than 20 times the smallest, else linear.
    #[default]
    Auto,
    /// Linear.
    Linear,
    /// Logarithmic, unless a value is not positive.
    Log,
    /// Linear, with 0 to 1 written as 0 % to 100 %.
    Percent,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    /// A full line, named in the legend.
    #[default]
    Full,
    /// A thin pale line in the colour of the next full one and without a name: what that one is the mean of.
    Pale,
    /// Filled down to the area before it in the panel, or to the bottom: parts of a whole, stacked by who gives them.
    Area,
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Pairs of step and value. A value that is not finite breaks the line; its step is marked.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub weight: Weight,
}

impl Series {
    /// A full line.
    pub fn new(name: impl Into<String>, points: impl Into<Vec<(f64, f64)>>) -> Series {
        Series { name: name.into(), points: points.into(), weight: Weight::Full }
    }
}

/// Curves that share an axis of values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// Stands above the panel and says what its values are.
    pub title: String,
    /// How values are spread.
    pub scale: Scale,
    /// The curves.
    pub series: Vec<Series>,
    /// Values over a plane, in place of curves.
    pub heat: Option<Heat>,
    /// What its own horizontal axis counts; without, it has the chart's.
    pub x_label: Option<String>,
}

/// Values over a plane, as colours and lines of equal height, in equal steps of the logarithm above the lowest.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Positions across, rising.
    pub x: Vec<f64>,
    /// Positions upwards, rising.
    pub y: Vec<f64>,
    /// A row for each position upwards. A value that is not finite leaves its place empty.
    pub values: Vec<Vec<f64>>,
}

/// Panels under one title.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Stands above all.
    pub title: String,
    /// What the shared horizontal axis counts.
    pub x_label: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        svg::write(&layout::page(self), false)
    }

    /// The chart as an SVG element for a page: as wide as there is room, without a background, its neutral colours given by the
    /// classes `ink`, `faint`, `frame`, `grid` and `minor`, so that the page's own style decides them.
    pub fn inline_svg(&self) -> String {
        svg::write(&layout::page(self), true)
    }

    /// The chart as a PNG file, two pixels to the unit of the SVG.
    pub fn png(&self) -> Result<Vec<u8>, CurvesError> {
        png::write(&layout::page(self))
    }
}

/// One figure of a training over its steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// As in `accuracy`.
    pub name: String,
    /// Step and value, usually each step.
    pub train: Vec<(f64, f64)>,
    /// Step and value on data that are not trained on.
    pub held_out: Vec<(f64, f64)>,
}

/// What a training shows, fed with its records; [`TrainingCurves::chart`] makes the panels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainingCurves {
    /// Stands above all.
    pub title: String,
    /// What the data that are not trained on are called; `validation` if nothing is said.
    pub held_out: String,
    /// Each figure, in the order in which they came first.
    pub figures: Vec<Figure>,
    /// Per layer its name, and step and norm of its gradient.
    pub gradient_norms: Vec<(String, Vec<(f64, f64)>)>,
}

impl TrainingCurves {
    /// Takes in a record.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Step(step) => {
                let at = step.step as f64;
                step.numbers.iter().for_each(|(name, value)| self.figure(name).train.push((at, value)));
                for (layer, norm) in step.layers.iter() {
                    let place = self.gradient_norms.iter().position(|known| known.0 == layer);
                    let place = place.unwrap_or_else(|| {
                        self.gradient_norms.push((layer.into(), Vec::new()));
                        self.gradient_norms.len() - 1
                    });
                    self.gradient_norms[place].1.push((at, norm));
                }
            }
            Record::Evaluation(evaluation) => {
                let at = evaluation.step as f64;
                evaluation.validation.iter().for_each(|(name, value)| self.figure(name).held_out.push((at, value)));
            }
        }
    }

    fn figure(&mut self, name: &str) -> &mut Figure {
        let place = self.figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            self.figures.push(Figure { name: name.into(), ..Figure::default() });
            self.figures.len() - 1
        });
        &mut self.figures[place]
    }

    /// A panel for each figure, and one for the norms of gradients. A learning rate is shown if it changes.
    pub fn chart(&self) -> Chart {
        let mut panels = Vec::new();
        let mut panel = |title: &str, scale, series: Vec<Series>| {
            let series: Vec<Series> = series.into_iter().filter(|series| !series.points.is_empty()).collect();
            if !series.is_empty() {
                panels.push(Panel { title: title.replace('_', " "), scale, series, ..Panel::default() });
            }
        };
        let held_out = if self.held_out.is_empty() { "validation" } else { &self.held_out };
        let plain = |figure: &&Figure| ![RATE, GRADIENT_NORM].contains(&figure.name.as_str());
        for figure in self.figures.iter().filter(plain) {
            let share = figure.name.parse::<Metric>().is_ok_and(Metric::is_share);
            let mut series = with_mean("train", &figure.train);
            series.push(Series::new(held_out, figure.held_out.as_slice()));
            panel(&figure.name, if share { Scale::Percent } else { Scale::Auto }, series);
        }
        let of = |name: &str| self.figures.iter().find(|figure| figure.name == name);
        if let Some(rate) = of(RATE).filter(|rate| rate.train.iter().any(|point| point.1 != rate.train[0].1)) {
            panel("learning rate", Scale::Linear, vec![Series::new("rate", rate.train.as_slice())]);
        }
        let layers = self.gradient_norms.iter().map(|(name, points)| (name.as_str(), points));
        let whole = of(GRADIENT_NORM).filter(|_| self.gradient_norms.is_empty()).map(|all| ("all", &all.train));
        // Pale lines of many layers would cover each other's means.
        let norms = layers.chain(whole).flat_map(|(name, points)| with_mean(name, points));
        panel("gradient norm", Scale::Log, norms.filter(|series| series.weight == Weight::Full).collect());
        Chart { title: self.title.clone(), x_label: "step".into(), panels }
    }
}

/// The name of the learning rate among the numbers of a step.
const RATE: &str = "rate";

/// From this many points on, a curve is noise to the eye, and its mean is drawn over it.
const NOISY: usize = 200;

/// The curve itself; or, of many points, the curve in pale and its centred mean over a fiftieth of them.
fn with_mean(name: &str, points: &[(f64, f64)]) -> Vec<Series> {
    if points.len() < NOISY {
        return vec![Series::new(name, points)];
    }
    let reach = points.len() / 100;
    // A mean this smooth is known from every tenth of its reach; points that are not finite all stay, as breaks.
    let stride = (reach / 10).max(1);
    let mut mean = Vec::new();
    for (at, &(step, value)) in points.iter().enumerate() {
        if !value.is_finite() {
            mean.push((step, value));
        } else if at % stride == 0 || at + 1 == points.len() {
            // At the steep start the window shrinks on both sides, so that the mean does not lean inwards.
            let window = &points[at - reach.min(at)..points.len().min(at + reach.min(at) + 1)];
            let finite = || window.iter().map(|point| point.1).filter(|value| value.is_finite());
            let count = finite().count() as f64;
            mean.push((step, finite().map(|value| value / count).sum()));
        }
    }
    let pale = Series { name: name.into(), points: points.into(), weight: Weight::Pale };
    vec![pale, Series::new(format!("{name} (mean of {})", 2 * reach + 1), mean)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run as it may look: noise, rare evaluations, many layers.
    fn example() -> TrainingCurves {
        let mut state = 7u64;
        let mut noise = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        let fall = |step: f64| 2.3 * (-step / 400.0).exp() + 0.9 / (1.0 + step / 60.0) + 0.012;
        let (mut loss, mut accuracy) = (Figure::default(), Figure::default());
        (loss.name, accuracy.name) = ("loss".into(), "accuracy".into());
        for step in 0..3000 {
            let x = step as f64;
            loss.train.push((x, fall(x) * (noise() * 0.9).exp()));
            if step % 100 == 0 {
                loss.held_out.push((x, fall(x) * 1.1 + 0.03));
                accuracy.train.push((x, (1.0 - fall(x) / 3.6).min(1.0)));
                accuracy.held_out.push((x, (1.0 - fall(x) / 3.3 - 0.012).max(0.1)));
            }
        }
        let title = "digits, 64–128–10, Adam 1e-3".into();
        let mut curves = TrainingCurves { title, figures: vec![loss, accuracy], ..Default::default() };
        for layer in 0..24 {
            let norm = |step: i32| {
                fall(step as f64) * 0.8f64.powi(24 - layer) * (0.3 * ((step / 7 + layer) as f64).sin()).exp()
            };
            let points = (0..300).map(|at| (at as f64 * 10.0, norm(at * 10))).collect();
            curves.gradient_norms.push((format!("blocks.{layer}.attention.query.weight"), points));
        }
        curves
    }

    #[test]
    fn a_run_is_drawn() {
        let chart = example().chart();
        let svg = chart.svg();
        for part in ["digits, 64–128–10, Adam 1e-3", ">loss<", ">accuracy<", ">gradient norm<", ">step<", ">100 %<"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert!(svg.contains("train (mean of 61)"));
        let png = chart.png().unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() < 600_000, "{} bytes", png.len());
        // To look at it: CURVES_OUT=curves cargo test -p chainrule-train a_run
        if let Ok(out) = std::env::var("CURVES_OUT") {
            std::fs::write(format!("{out}.svg"), svg).unwrap();
            std::fs::write(format!("{out}.png"), png).unwrap();
            let mut two = example();
            two.gradient_norms.clear();
            two.figures[0].train[2400..].iter_mut().for_each(|point| point.1 = f64::NAN);
            std::fs::write(format!("{out}-two.png"), two.chart().png().unwrap()).unwrap();
        }
    }

    #[test]
    fn strange_values_are_drawn_or_named_and_never_panic() {
        let big = f64::MAX;
        let strange: [&[(f64, f64)]; 10] = [
            &[],
            &[(0.0, 0.0)],
            &[(5.0, 1e-310), (5.0, 1e-310)],
            &[(-big, -big), (big, big)],
            &[(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
            &[(f64::NAN, 1.0), (f64::INFINITY, 2.0)],
            &[(0.0, f64::INFINITY)],
            &[(1e15, 1e15), (1e15 + 1.0, 1e15 + 1.0)],
            &[(3.0, 1.0), (1.0, 2.0), (2.0, 0.5)],
            &[(0.0, f64::MIN_POSITIVE), (1.0, big)],
        ];
        for points in strange {
            for scale in [Scale::Auto, Scale::Linear, Scale::Log, Scale::Percent] {
                let panel =
                    Panel { title: "p".into(), scale, series: vec![Series::new("s", points)], ..Panel::default() };
                let chart = Chart { title: "a<b & \"c\"\u{1}".repeat(40), x_label: "step".into(), panels: vec![panel] };
                let svg = chart.svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{points:?} {scale:?}\n{svg}");
                assert!(svg.contains("a&lt;b &amp; &quot;c&quot;\u{fffd}"));
                let breaks = points.iter().any(|point| point.0.is_finite() && !point.1.is_finite());
                assert_eq!(svg.contains("not finite at step"), breaks, "{points:?}");
                chart.png().unwrap();
            }
        }
        let none = Chart { title: String::new(), x_label: String::new(), panels: vec![] };
        none.png().unwrap();
        let many = Chart { panels: vec![Panel::default(); 200], ..none };
        assert!(many.png().unwrap_err().to_string().contains("use fewer panels"));
    }

    #[test]
    fn many_points_make_a_small_file() {
        let points: Vec<_> = (0..200_000).map(|at| (at as f64, (at as f64 * 0.37).sin())).collect();
        let loss = Figure { name: "loss".into(), train: points, held_out: vec![] };
        let curves = TrainingCurves { figures: vec![loss], ..Default::default() };
        assert!(curves.chart().svg().len() < 200_000);
    }

    #[test]
    fn the_mean_is_centred() {
        let line: Vec<_> = (0..400).map(|at| (at as f64, at as f64)).collect();
        let series = with_mean("x", &line);
        assert_eq!((series.len(), series[0].weight), (2, Weight::Pale));
        for (step, mean) in &series[1].points[..395] {
            assert!((mean - step).abs() < 1e-9);
        }
        // At the end only the past half of the window is left.
        assert_eq!(series[1].points[399], (399.0, 397.0));
    }

    #[test]
    fn areas_are_stacked_and_planes_have_colours_and_heights() {
        let area = |name: &str, high: f64| Series {
            weight: Weight::Area,
            ..Series::new(name, vec![(0.0, high), (1.0, high * 2.0)])
        };
        let values = (0..5).map(|y| (0..5).map(|x| ((x - 2) * (x - 2) + (y - 2) * (y - 2)) as f64).collect()).collect();
        let places: Vec<f64> = (0..5).map(f64::from).collect();
        let heat = Heat { x: places.clone(), y: places, values };
        let chart = Chart {
            title: "t".into(),
            x_label: "step".into(),
            panels: vec![
                Panel { title: "parts".into(), series: vec![area("a", 1.0), area("b", 3.0)], ..Panel::default() },
                Panel { heat: Some(heat), x_label: Some("first".into()), ..Panel::default() },
            ],
        };
        let svg = chart.svg();
        // Two areas, a cell for each value, and the scale beside.
        assert_eq!(svg.matches("<polygon").count(), 2 + 25 + 40, "{svg}");
        assert!(svg.contains(">first</text>") && svg.contains(">step</text>"));
        let inline = chart.inline_svg();
        assert!(inline.contains("class=\"ink\"") && !inline.contains("<rect") && !inline.contains("width=\"1000\""));
        assert!(chart.png().unwrap().starts_with(&[0x89, b'P', b'N', b'G']));
    }
}
