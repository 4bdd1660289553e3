//! `chainrule predict` of a run of a model file: classes with their probabilities, numbers, or the tokens of an answer.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chainrule::execute::compile;
use chainrule::tensor::{DType, Tensor};
use chainrule_train::data::Batch;
use chainrule_train::experiment::{Experiment, decode};
use chainrule_train::model::{Form, Network};
use chainrule_train::picture;
use chainrule_train::progress::list;
use chainrule_train::run::RunFolder;
use serde::Serialize;

use crate::experiment::failure;
use crate::outcome::{self, Failure, Outcome};

/// Classes that are listed at most.
const MOST_CLASSES: usize = 10;
/// The largest picture that is drawn in letters.
const MOST_SHADES: usize = 40;

/// What is asked.
pub struct Question {
    pub image: Option<PathBuf>,
    pub index: Option<usize>,
    pub table: Option<PathBuf>,
    pub best: bool,
    pub json: bool,
}

/// What is said of one example.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// The likeliest class, and the probability of each.
    Class { class: usize, name: String, probabilities: Vec<f32> },
    /// Tokens, as text where there is a tokenizer.
    Tokens { tokens: Vec<i64>, text: Option<String> },
    /// Numbers as the network gives them.
    Numbers(Vec<f32>),
}

#[derive(Serialize)]
struct Told {
    run: PathBuf,
    #[serde(flatten)]
    answer: Answer,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<Truth>,
}

/// What is right.
#[derive(Serialize)]
#[serde(untagged)]
enum Truth {
    Tokens(Vec<i64>),
    Numbers(Vec<f32>),
}

pub fn run(run: &RunFolder, question: Question) -> Outcome {
    let mut experiment = Experiment::open(run).map_err(failure)?;
    let network = experiment.trained(run, question.best).map_err(failure)?;
    if let Some(path) = &question.table {
        return table(run, &experiment, &network, path, question.json);
    }
    if let Some(path) = &question.image {
        let input = picture_for(&experiment, path)?;
        let shown = input.clone();
        let batch = Batch { inputs: vec![input], targets: Vec::new() };
        return tell(run, &experiment, &network, batch, &shown, question.json);
    }
    let (part, set) = experiment.part(None).map_err(failure)?;
    match question.index {
        Some(index) if index >= set.len() => {
            let (name, last) = (part.name(), set.len() - 1);
            Err(Failure::input(format!("--index {index}: the {name} examples are 0 to {last}")))
        }
        Some(index) => {
            let batch = set.batch(&[index], None).map_err(Failure::input)?;
            let shown = batch.input().clone();
            tell(run, &experiment, &network, batch, &shown, question.json)
        }
        None => {
            let evaluation = experiment.evaluate(&network, set, None).map_err(failure)?;
            if question.json {
                return outcome::print_json(&evaluation);
            }
            let (at, name) = (run.path().display(), part.name());
            let mut text = format!("{at} on {} {name} examples: {}\n", evaluation.examples, list(&evaluation.numbers));
            if let Some(matrix) = &evaluation.confusion {
                let _ = write!(text, "\n{matrix}");
            }
            let _ = writeln!(text, "\nnext     chainrule predict {} --index 0", outcome::shell(run.path()));
            outcome::print(&text)
        }
    }
}

/// A picture as the network looks at it, `[1, channels, height, width]`.
fn picture_for(experiment: &Experiment, path: &Path) -> Result<Tensor, Failure> {
    let example = experiment.example();
    let wrong = |problem: String| Failure::input(format!("--image {problem}"));
    let data = experiment.data().ok_or_else(|| Failure::input("the model file of this run has no [data]"))?;
    // What the set has, before it is transformed.
    let plain = chainrule_train::data::DataSettings { transforms: Vec::new(), ..data.clone() };
    let form = plain.example().map_or(example, |example| example);
    let [channels, height, width] = form.inputs[0].shape[..] else {
        return Err(wrong(format!("the network looks at {}, and that is no picture", form.inputs[0])));
    };
    let digits = matches!(data.set.to_string().as_str(), "digits" | "mnist");
    let pixels = picture::read(path, (channels, height, width), digits).map_err(|error| wrong(error.to_string()))?;
    let pixels = Tensor::from_vec(pixels, [1, channels, height, width]);
    experiment.transformed(&pixels).map_err(failure)
}

/// The rows of a table, one prediction each.
fn table(run: &RunFolder, experiment: &Experiment, network: &Network, path: &Path, json: bool) -> Outcome {
    let input = experiment.rows_of(path).map_err(failure)?;
    let batch = Batch { inputs: vec![input], targets: Vec::new() };
    let answers = answers(experiment, network, &batch)?;
    if json {
        let told = |answer| Told { run: run.path().to_path_buf(), answer, truth: None };
        return outcome::print_json(&answers.into_iter().map(told).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for answer in answers {
        match answer {
            Answer::Class { name, probabilities, class } => drop(writeln!(text, "{name},{}", probabilities[class])),
            Answer::Tokens { tokens, .. } => drop(writeln!(text, "{}", joined(&tokens, ","))),
            Answer::Numbers(numbers) => drop(writeln!(text, "{}", joined(&numbers, ","))),
        }
    }
    outcome::print(&text)
}

fn joined(values: &[impl ToString], between: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// What the network says of each example.
fn answers(experiment: &Experiment, network: &Network, batch: &Batch) -> Result<Vec<Answer>, Failure> {
    let example = experiment.example();
    if network.form() == Form::EncoderDecoder && example.inputs.len() > 2 {
        let problem = "an encoder-decoder answers token by token from its source alone, and this one takes more inputs";
        return Err(Failure::input(problem));
    }
    if network.form() == Form::EncoderDecoder {
        let window = example.inputs.get(1).map_or(1, |input| input.numel());
        // A question alone has no first token of an answer: it is 0 then.
        let begin = match batch.inputs.get(1) {
            Some(said) => said.narrow(1, 0, 1).eval(),
            None => Tensor::zeros([batch.len(), 1], DType::I64),
        };
        let answers = decode(network, &batch.inputs[0].eval(), &begin, window).map_err(Failure::input)?;
        let text = |tokens: &[i64]| experiment.tokenizer().map(|tokenizer| tokenizer.decode(&unsigned(tokens)));
        return Ok(answers.into_iter().map(|tokens| Answer::Tokens { text: text(&tokens), tokens }).collect());
    }
    if batch.inputs.len() < example.inputs.len() {
        let wanted = example.inputs.len();
        return Err(Failure::input(format!(
            "the network takes {wanted} inputs; ask it about an example of its data: --index"
        )));
    }
    let mut forward = compile(|(network, inputs): &(Network, Vec<Tensor>)| network.evaluate(inputs).cast(DType::F32));
    let output = forward.run((network.clone(), batch.inputs.clone())).map_err(Failure::input)?;
    let is_class = example.targets.first().is_some_and(|target| !target.dtype.is_float());
    Ok((0..batch.len())
        .map(|row| {
            let output = output.at(row);
            match (is_class, output.rank()) {
                (true, 1) => class(experiment, &output),
                (true, 2..) => {
                    let tokens = output.argmax(-1).to_vec::<i64>();
                    let text = experiment.tokenizer().map(|tokenizer| tokenizer.decode(&unsigned(&tokens)));
                    Answer::Tokens { tokens, text }
                }
                _ => Answer::Numbers(output.to_vec::<f32>()),
            }
        })
        .collect())
}

fn unsigned(tokens: &[i64]) -> Vec<u32> {
    tokens.iter().map(|&token| token as u32).collect()
}

fn class(experiment: &Experiment, logits: &Tensor) -> Answer {
    let probabilities = logits.softmax(-1).to_vec::<f32>();
    let class = logits.argmax(-1).item::<i64>() as usize;
    Answer::Class { class, name: name_of(experiment, class), probabilities }
}

fn name_of(experiment: &Experiment, class: usize) -> String {
    experiment.names().and_then(|names| names.get(class)).cloned().unwrap_or_else(|| class.to_string())
}

/// Says everything of one example.
fn tell(
    run: &RunFolder,
    experiment: &Experiment,
    network: &Network,
    batch: Batch,
    shown: &Tensor,
    json: bool,
) -> Outcome {
    let answer = answers(experiment, network, &batch)?.swap_remove(0);
    let truth = batch.targets.first().map(|target| match target.dtype().is_float() {
        true => Truth::Numbers(target.cast(DType::F32).to_vec()),
        false => Truth::Tokens(target.cast(DType::I64).to_vec()),
    });
    if json {
        return outcome::print_json(&Told { run: run.path().to_path_buf(), answer, truth });
    }
    let mut text = seen(experiment, shown);
    match (&answer, truth) {
        (Answer::Class { class, name, probabilities }, truth) => {
            text += &bars(experiment, probabilities, *class);
            let right = match truth {
                Some(Truth::Tokens(truth)) if truth[..] == [*class as i64] => ", and that is right".into(),
                Some(Truth::Tokens(truth)) => format!(", and is {}", name_of(experiment, truth[0] as usize)),
                _ => String::new(),
            };
            let _ = writeln!(text, "\nit is read as {name}{right}");
        }
        (Answer::Tokens { tokens, text: said }, truth) => {
            let _ = writeln!(text, "said    {}", said.as_ref().map_or(joined(tokens, " "), |said| format!("{said:?}")));
            if let Some(Truth::Tokens(truth)) = truth {
                let is =
                    if truth == *tokens { "that is right".into() } else { format!("right   {}", joined(&truth, " ")) };
                let _ = writeln!(text, "{is}");
            }
        }
        (Answer::Numbers(numbers), truth) => {
            let _ = writeln!(text, "said    {}", joined(numbers, " "));
            if let Some(Truth::Numbers(truth)) = truth {
                let _ = writeln!(text, "right   {}", joined(&truth, " "));
            }
        }
    }
    outcome::print(&text)
}

/// The input, where a terminal can show it.
fn seen(experiment: &Experiment, input: &Tensor) -> String {
    let mut text = String::new();
    match (&input.shape()[1..], input.dtype()) {
        ([1, height, width], DType::F32) if *width <= MOST_SHADES && *height <= MOST_SHADES => {
            let _ = writeln!(text, "as the network sees it, {height}×{width}:\n");
            for row in picture::shades(&input.to_vec::<f32>(), *width).lines() {
                let _ = writeln!(text, "    │{row}│");
            }
            text.push('\n');
        }
        ([_], DType::I64) => {
            let tokens = input.to_vec::<i64>();
            let shown = match experiment.tokenizer() {
                Some(tokenizer) => format!("{:?}", tokenizer.decode(&unsigned(&tokens))),
                None => joined(&tokens, " "),
            };
            let _ = writeln!(text, "given   {shown}");
        }
        (shape, _) => drop(writeln!(text, "given   {} numbers {shape:?}", input.numel())),
    }
    text
}

/// The likeliest classes with a bar each: in the order of the classes, or of many the likeliest first.
fn bars(experiment: &Experiment, probabilities: &[f32], best: usize) -> String {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    if classes.len() > MOST_CLASSES {
        classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        classes.truncate(MOST_CLASSES);
    }
    let names: Vec<String> = classes.iter().map(|&class| name_of(experiment, class)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (class, name) in classes.into_iter().zip(names) {
        let probability = probabilities[class];
        let bar = "█".repeat((probability * 30.0).round() as usize);
        let mark = if class == best { "→" } else { " " };
        let line = format!("  {mark} {name:>width$}  {:>5.1} %  {bar}", 100.0 * probability);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
