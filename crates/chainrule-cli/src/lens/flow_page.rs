//! A gradient flow as a page: the verdict, pictures along the layers, tables.

use chainrule_lens::flow::{Finding, LayerFlow, ParameterFlow};
use chainrule_lens::{GradientFlow, NonFinite};
use chainrule_train::curves::{Chart, Panel, Scale, Series};

use crate::report::{Page, Tone, maybe, number, percent, shape};

/// Fills a page.
pub fn fill(page: &mut Page, flow: &GradientFlow, verdict: &[Finding], found: Option<&NonFinite>) {
    if verdict.is_empty() {
        page.verdict(Tone::Good, "nothing is wrong", &[]);
    }
    for finding in verdict {
        let paths = if finding.paths.is_empty() { String::new() } else { format!(" in {}", finding.paths.join(", ")) };
        let mut more = vec![("because", finding.evidence.clone()), ("change", finding.change.clone())];
        more.extend(finding.line.as_ref().map(|line| ("line", line.to_string())));
        page.verdict(Tone::Bad, &format!("{}{paths}", finding.diagnosis), &more);
    }
    if let Some(found) = found {
        page.lines(&found.to_string());
    }
    let mut figures = vec![("loss", flow.loss.to_string()), ("length of the gradient", flow.gradient_norm.to_string())];
    figures.extend(flow.learning_rate.map(|rate| ("learning rate", number(rate))));
    figures.extend(flow.largest_eigenvalue.map(|value| ("largest eigenvalue of the Hessian", number(value))));
    page.figures(&figures);
    page.heading("Along the layers");
    page.picture(&chart(flow));
    let row = |(place, layer): (usize, &LayerFlow)| {
        let slope = layer.slope.as_ref();
        vec![
            place.to_string(),
            layer.path.clone(),
            layer.line.to_string(),
            number(layer.output.rms.0),
            number(layer.output.between_examples.0),
            maybe(slope.map(|slope| percent(slope.saturated))),
            maybe(slope.map(|slope| percent(slope.dead))),
            maybe(layer.gain.as_ref().map(|gain| number(gain.rms.0))),
            maybe(layer.gain.as_ref().map(|gain| number(gain.largest.0))),
            number(layer.product.0),
            number(layer.gradient_norm.0),
        ]
    };
    let columns =
        ["#layer", "", "line", "#output", "#spread", "#flat", "#dead", "#gain", "#largest", "#product", "#gradient"];
    page.table(&columns, &flow.layers.iter().enumerate().map(row).collect::<Vec<_>>());
    page.words(
        "Output and spread: root mean square of a layer's output, and between examples. Flat: activation slopes below 0.05; \
         dead: units whose slope is 0 for every example. Gain and largest: of the layer's Jacobian for a gradient, root mean \
         square and largest singular value; product: of the gains from the loss down. Gradient: its length at the output.",
    );
    page.heading("Parameters");
    let row = |parameter: &ParameterFlow| {
        vec![
            parameter.path.clone(),
            shape(&parameter.shape),
            number(parameter.norm.0),
            number(parameter.gradient_norm.0),
            maybe(parameter.update_ratio.map(number)),
            percent(parameter.zero_share),
        ]
    };
    let columns = ["parameter", "shape", "#length", "#gradient", "#step / length", "#zeros"];
    page.table(&columns, &flow.parameters.iter().map(row).collect::<Vec<_>>());
}

/// Gradients, gains and activations over the layers' numbers.
fn chart(flow: &GradientFlow) -> Chart {
    let along = |name: &str, of: &dyn Fn(&LayerFlow) -> Option<f64>| {
        let points = flow.layers.iter().enumerate().filter_map(|(place, layer)| Some((place as f64, of(layer)?)));
        Series::new(name, points.collect::<Vec<_>>())
    };
    let panel =
        |title: &str, series: Vec<Series>| Panel { title: title.into(), scale: Scale::Log, series, ..Panel::default() };
    let gain = |layer: &LayerFlow| layer.gain.as_ref().map(|gain| gain.rms.0);
    let largest = |layer: &LayerFlow| layer.gain.as_ref().map(|gain| gain.largest.0);
    Chart {
        title: String::new(),
        x_label: "layer, from the data to the loss".into(),
        panels: vec![
            panel(
                "gradients",
                vec![
                    along("length of the gradient", &|layer| Some(layer.gradient_norm.0)),
                    along("product of gains", &|layer| Some(layer.product.0)),
                ],
            ),
            panel("gains of Jacobians", vec![along("root mean square", &gain), along("largest", &largest)]),
            panel(
                "activations",
                vec![
                    along("size of the output", &|layer| Some(layer.output.rms.0)),
                    along("spread between examples", &|layer| Some(layer.output.between_examples.0)),
                ],
            ),
        ],
    }
}
