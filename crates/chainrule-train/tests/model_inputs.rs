//! Model files with several inputs: lengths, masks, states, pairs and triplets; each trains, and mistakes are shown.
mod mistakes;

use chainrule::prelude::*;
use chainrule::tensor::Type;
use chainrule_nn::prelude::*;
use chainrule_train::data::Batch;
use chainrule_train::experiment::{Experiment, Options};
use chainrule_train::model::{Network, Spec};
use chainrule_train::task::{Fit, Task};
use chainrule_train::training::SaveEvery;
use mistakes::Broken;

/// Examples of a batch.
const COUNT: usize = 16;

fn numbers(seed: u64, shape: &[usize]) -> Tensor {
    Key::new(seed).normal([&[COUNT], shape].concat(), DType::F32).eval()
}

/// How many of 6 steps count, from 2 to 6.
fn steps() -> Tensor {
    Tensor::from_vec((0..COUNT as i64).map(|n| 2 + n % 5).collect::<Vec<_>>(), [COUNT])
}

/// The sum of what counts of `[N, 6, …]`, of the first feature: `[N, 1]`.
fn sum(x: &Tensor) -> Tensor {
    let inside = length_mask(&steps(), 6).reshape([COUNT, 6, 1]);
    (x.narrow(-1, 0, 1) * inside.cast(DType::F32)).sum(1).eval()
}

fn batch(inputs: Vec<Tensor>, targets: impl Into<Option<Tensor>>) -> Batch {
    Batch { inputs, targets: targets.into().into_iter().collect() }
}

/// What can be said with a name for an input: a text, and examples for it.
fn rows() -> Vec<(&'static str, &'static str, Batch)> {
    let (x, y, sequence) = (numbers(1, &[4]), numbers(2, &[3]), numbers(3, &[6, 4]));
    let product = (x.narrow(1, 0, 1) * y.narrow(1, 1, 1)).eval();
    let (h, c) = (numbers(4, &[8]), numbers(5, &[8]));
    let labels = Tensor::from_vec((0..COUNT as i64).flat_map(|n| [1 + n % 2, -1]).collect::<Vec<_>>(), [COUNT, 2]);
    let alike = Tensor::from_vec((0..COUNT).map(|n| 1.0 - 2.0 * (n % 2) as f32).collect::<Vec<_>>(), [COUNT, 1]);
    let summed = sum(&sequence);
    vec![
        (
            "bilinear",
            "[example]\ninput = [4]\nsecond = [3]\n[model]\nlayers = [{ bilinear = 1, with = \"second\" }]",
            batch(vec![x.clone(), y.clone()], product.clone()),
        ),
        (
            "a branch over another input, and what was kept",
            "[example]\ninput = [4]\nsecond = [3]\n[model]\nlayers = [{ linear = 8 }, \"tanh\", { keep = \"a\" },\n\
             { take = \"second\" }, { linear = 8 }, { bilinear = 4, with = \"a\" }, { concat = [[{ take = \"a\" }], [\"tanh\"]] }, { linear = 1 }]",
            batch(vec![x.clone(), y], product),
        ),
        (
            "lengths of recurrent layers",
            "[example]\ninput = [6, 4]\nmore = { steps = \"i64[]\" }\n[model]\nlayers = [\n\
             { gru = 8, lengths = \"steps\", bidirectional = true, output = \"state\" }, { linear = 1 }]",
            batch(vec![sequence.clone(), steps()], summed.clone()),
        ),
        (
            "a state to start from",
            "[example]\ninput = [6, 4]\nmore = { h = \"f32[8]\", c = \"f32[8]\" }\n[model]\nlayers = [\n\
             { lstm = 8, initial = \"h\", cell = \"c\", output = \"state\" }, { linear = 1 }]",
            batch(vec![sequence.clone(), h.clone(), c], h.narrow(1, 0, 1).eval()),
        ),
        (
            "a state for each of two layers",
            "[example]\ninput = [6, 4]\nmore = { h = \"f32[2, 4]\" }\n[model]\nlayers = [\n\
             { rnn = 4, layers = 2, initial = \"h\", output = \"state\" }, { linear = 1 }]",
            batch(vec![sequence.clone(), h.reshape([COUNT, 2, 4]).eval()], h.narrow(1, 0, 1).eval()),
        ),
        (
            "a mask by lengths",
            "[example]\ninput = [6, 4]\nmore = { steps = \"i64[]\" }\n[model]\nlayers = [\n\
             { encoder = 2, mask = \"steps\" }, { attention = 2, mask = \"steps\" }, \"first\", { linear = 1 }]",
            batch(vec![sequence.clone(), steps()], summed.clone()),
        ),
        (
            "masks of a mean, a sum and a maximum",
            "[example]\ninput = [6, 4]\nmore = { there = \"f32[6]\" }\n[model]\nlayers = [{ concat = [\n\
             [{ mean = 1, mask = \"there\" }], [{ sum = 1, mask = \"there\" }], [{ max = 1, mask = \"there\" }]] }, { linear = 1 }]",
            batch(
                vec![sequence.clone(), length_mask(&steps(), 6).reshape([COUNT, 6]).cast(DType::F32).eval()],
                summed.clone(),
            ),
        ),
        (
            "masks of places for an encoder and a decoder",
            "[example]\ninput = [6, 4]\nsecond = [6, 4]\nmore = { there = \"i64[6]\" }\n[model]\nkind = \"encoder-decoder\"\n\
             [model.encoder]\nlayers = [{ encoder = 2, mask = \"there\" }]\n\
             [model.decoder]\nlayers = [{ decoder = 2, mask = \"there\", memory_mask = \"there\" }, \"first\", { linear = 1 }]",
            batch(
                vec![
                    sequence.clone(),
                    sequence.clone(),
                    length_mask(&steps(), 6).reshape([COUNT, 6]).cast(DType::I64).eval(),
                ],
                summed,
            ),
        ),
        (
            "triplets",
            "[example]\ninput = [4]\nsecond = [4]\nmore = { unlike = \"f32[4]\" }\nno_target = true\n[model]\nkind = \"siamese\"\n\
             layers = [{ linear = 8 }, \"tanh\", { linear = 3 }]\n[loss]\nname = \"triplet\"\nmargin = 0.5\nswap = true",
            batch(vec![x.clone(), (&x + numbers(6, &[4]) * 0.1).eval(), numbers(7, &[4])], None),
        ),
        (
            "pairs",
            "[example]\ninput = [4]\nsecond = [4]\n[model]\nkind = \"siamese\"\nlayers = [{ linear = 8 }, \"tanh\", { linear = 3 }]\n\
             [loss]\nname = \"cosine_embedding\"\nmargin = 0.2",
            batch(vec![x.clone(), (&x * &alike + numbers(8, &[4]) * 0.1).eval()], alike.clone()),
        ),
        (
            "alignments",
            "[example]\ninput = [6, 4]\nmore = { steps = \"i64[]\" }\nclasses = 3\ntarget = [2]\n[model]\nlayers = [{ linear = 3 }]\n\
             [loss]\nname = \"ctc\"\nlengths = \"steps\"",
            batch(vec![(sequence + labels.narrow(1, 0, 1).unsqueeze(-1).cast(DType::F32)).eval(), steps()], labels),
        ),
    ]
}

fn spec(text: &str) -> Spec {
    let text = format!("{text}\n[optimizer]\nname = \"adam\"\nrate = 0.02\n[train]\nbatch = {COUNT}");
    Spec::parse("several.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// The losses of training on one batch.
fn train(text: &str, batch: &Batch) -> Result<Vec<f64>, String> {
    type State = Fit<Network, AnyOptimizer<Network>>;
    let spec = spec(text);
    let example = spec.example().cloned().ok_or("no example")?;
    let given: Vec<&Type> = batch.inputs.iter().map(Tensor::ty).collect();
    let stated: Vec<Vec<usize>> = example.inputs.iter().map(|ty| [&[COUNT], &ty.shape[..]].concat()).collect();
    assert!(given.iter().map(|ty| ty.shape.to_vec()).eq(stated), "the row's inputs are {given:?}");
    let summary = spec.summary(&example).map_err(|error| error.to_string())?;
    let network = spec.build(&example, &Key::new(1)).map_err(|error| error.to_string())?;
    if summary.parameters != parameter_count(&network) || summary.memory.step == 0 {
        return Err(format!("the summary says {} parameters", summary.parameters));
    }
    let optimizer = spec.optimizer(&network, 80).map_err(|error| error.to_string())?;
    let task = spec.task(80);
    let mut state = task.start(network, optimizer);
    let mut step = compile(|(state, batch, key): &(State, Batch, Key)| task.step(state, batch, key));
    (0..80)
        .map(|n| {
            let (next, measures) = step.run((state.clone(), batch.clone(), Key::new(n))).map_err(|e| e.to_string())?;
            state = next;
            measures.totals().numbers().get("loss").ok_or("no loss".to_owned())
        })
        .collect()
}

#[test]
fn each_trains_from_its_file() {
    let mut failures = Vec::new();
    for (name, text, batch) in rows() {
        match train(text, &batch) {
            Ok(losses) if losses[79] < 0.5 * losses[0] => {}
            Ok(losses) => failures.push(format!("{name}: {} becomes {}", losses[0], losses[79])),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_lies_beyond_a_length_does_not_count() {
    let mut failures = Vec::new();
    for (name, text, batch) in rows().into_iter().filter(|row| row.0.contains("length") || row.0.contains("mask")) {
        let spec = spec(text);
        let network = spec.build(spec.example().unwrap(), &Key::new(2)).unwrap();
        let inside = length_mask(&steps(), 6).reshape([COUNT, 6, 1]);
        let change = |x: &Tensor| if x.shape() == [COUNT, 6, 4] { inside.select(x, 9.0).eval() } else { x.clone() };
        let [as_it_was, changed] =
            [batch.inputs.clone(), batch.inputs.iter().map(change).collect()].map(|inputs| network.evaluate(&inputs));
        let off = (as_it_was - changed).abs().max(..).item::<f32>();
        if off > 1e-5 {
            failures.push(format!("{name}: {off}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn lsuv_starts_every_layer_at_variance_one() {
    let text = "[example]\ninput = [20]\nclasses = 5\n[model]\ninit = \"lsuv\"\n\
                layers = [{ linear = 50 }, \"relu\", { linear = 50 }, \"relu\", { linear = \"classes\" }]";
    let spec = Spec::parse("lsuv.toml", text).unwrap();
    let x = Key::new(1).uniform([64, 20], DType::F32).eval();
    let network = spec.build(spec.example().unwrap(), &Key::new(2)).unwrap().settled(std::slice::from_ref(&x));
    let weights = leaves(&network);
    let (mut a, mut failures) = (x, Vec::new());
    for layer in weights.chunks(2) {
        let z = a.matmul(&layer[0].t()) + &layer[1];
        let variance = z.variance(.., 0).item::<f32>();
        if (variance - 1.0).abs() > 0.01 {
            failures.push(format!("{variance}"));
        }
        a = z.relu();
    }
    assert!(failures.is_empty() && weights.len() == 6, "{}", failures.join(", "));
}

const BROKEN: &[Broken] = &[
    (
        "[example]\ninput = [6, 4]\nmore = { steps = \"i64[]\" }\n[model]\nlayers = [{ gru = 8, lengths = \"stps\" }]",
        5,
        "\"stps\"",
        "there is no input `stps`, and no layer kept it before",
        "did you mean `steps`?",
    ),
    (
        "[example]\ninput = [6, 4]\nmore = { steps = \"f32[]\" }\n[model]\nlayers = [{ gru = 8, lengths = \"steps\" }]",
        5,
        "\"steps\"",
        "`lengths` is a whole number each, and `steps` is f32 of []",
        "",
    ),
    (
        "[example]\ninput = [6, 4]\nmore = { h = \"f32[7]\" }\n[model]\nlayers = [{ rnn = 8, initial = \"h\" }]",
        5,
        "\"h\"",
        "`initial` is [7] of f32, and the state is [1, 8]",
        "",
    ),
    (
        "[example]\ninput = [6, 4]\nmore = { h = \"f32[8]\" }\n[model]\nlayers = [{ lstm = 8, initial = \"h\" }]",
        5,
        "\"h\"",
        "the state and the cell start together",
        "give `initial` and `cell`",
    ),
    (
        "[example]\ninput = [6, 4]\nmore = { there = \"f32[5]\" }\n[model]\nlayers = [{ encoder = 2, mask = \"there\" }]",
        5,
        "\"there\"",
        "`mask` is a whole number or [6], and `there` is f32 of [5]",
        "",
    ),
    (
        "[example]\ninput = [6, 4]\nmore = { steps = \"i64[]\" }\n[model]\nlayers = [{ mean = 2, mask = \"steps\" }]",
        5,
        "\"steps\"",
        "a mask is of axis 1, and axis 2 is taken together",
        "",
    ),
    (
        "[example]\ninput = [4]\nmore = { input = \"i64[]\" }\n[model]\nlayers = []",
        3,
        "input",
        "`input` is an input already",
        "take another name",
    ),
    (
        "[example]\ninput = [4]\nsecond = [2, 3]\n[model]\nlayers = [{ bilinear = 1, with = \"second\" }]",
        5,
        "\"second\"",
        "`bilinear` takes two values alike but for the last axis, and gets [4] and [2, 3]",
        "",
    ),
    (
        "[example]\ninput = [4]\nsecond = [3]\n[model]\nlayers = [{ bilinear = 1 }]",
        5,
        "{ bilinear = 1 }",
        "`bilinear` needs `with`",
        "`with` is a name: x₂: an input of the data, or what was kept",
    ),
    (
        "[example]\ninput = [4]\n[model]\nlayers = [{ keep = \"a\" }, { linear = 2 }, { keep = \"a\" }]",
        4,
        "\"a\"",
        "`a` is [4] already, and [2] comes in",
        "take another name",
    ),
    (
        "[example]\ninput = [4]\nmore = { steps = \"i46[]\" }\n[model]\nlayers = []",
        3,
        "{ steps = \"i46[]\" }",
        "`more` is a table of names and types, each \"f32[…]\" or \"i64[…]\" with sizes, not a table",
        "",
    ),
    (
        "[example]\ninput = [4]\nsecond = [3]\n[model]\nkind = \"siamese\"\nlayers = []",
        4,
        "[model]",
        "a siamese model reads inputs of one form, and these are [4] and [3]",
        "",
    ),
    (
        "loss = \"triplet\"\n[example]\ninput = [4]\nno_target = true\n[model]\nlayers = [{ linear = 3 }]",
        6,
        "{ linear = 3 }",
        "the network ends in [3], and this loss takes [3, size]: an anchor, one like it and one unlike it",
        "a model of kind = \"siamese\" gives that for 3 inputs",
    ),
    (
        "loss = \"huber\"\n[example]\ninput = [4]\nno_target = true\n[model]\nlayers = [{ linear = 3 }]",
        6,
        "{ linear = 3 }",
        "the data has no target for this loss",
        "give it one, or a loss of outputs alone: \"triplet\"",
    ),
    (
        "[example]\ninput = [6, 4]\nclasses = 3\ntarget = [2]\n[model]\nlayers = [{ linear = 2 }]\n[loss]\nname = \"ctc\"",
        6,
        "{ linear = 2 }",
        "the network ends in [6, 2], and labels and blank are 3 classes",
        "end it with { linear = 3 }",
    ),
    (
        "[example]\ninput = [6, 4]\nclasses = 3\ntarget = [2]\n[model]\nlayers = [{ linear = 3 }]\n[loss]\nname = \"ctc\"\nlengths = \"steps\"",
        9,
        "\"steps\"",
        "`lengths` is an input, and there is no `steps`",
        "it is one of: input",
    ),
    (
        "[example]\ninput = [6, 4]\nclasses = 3\ntarget = [2]\n[model]\nlayers = [{ linear = 3 }]\n[loss]\nname = \"ctc\"\n\
         [report]\nmetrics = [\"accuracy\"]",
        10,
        "[\"accuracy\"]",
        "metrics compare an output with its target, and `ctc` does not",
        "leave `metrics` out: the loss is reported",
    ),
    (
        "[data]\nset = \"arrays\"\npath = \"a.npz\"\ninputs = [\"x\"]\n[example]\ninput = [4]\nmore = { steps = \"i64[]\" }\n[model]\nlayers = []",
        7,
        "{ steps = \"i64[]\" }",
        "[data] names 1 inputs, and [example] has 2",
        "those of [data] are x",
    ),
];

#[test]
fn mistakes_are_shown_at_their_line() {
    mistakes::are_shown(BROKEN, |text| {
        Spec::parse("model.toml", text).and_then(|spec| spec.check(spec.example().unwrap())).err()
    });
}

/// A NumPy array in its format 1.
fn npy(kind: &str, shape: &str, data: Vec<u8>) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn arrays_by_their_names_train_a_run_from_lsuv() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sequences.npz");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let sequence = numbers(3, &[6, 4]);
    let floats = |x: &Tensor| x.to_vec::<f32>().into_iter().flat_map(f32::to_le_bytes).collect();
    for (name, array) in [
        ("series.npy", npy("<f4", "(16, 6, 4)", floats(&sequence))),
        ("steps.npy", npy("<i8", "(16,)", steps().to_vec::<i64>().into_iter().flat_map(i64::to_le_bytes).collect())),
        ("sum.npy", npy("<f4", "(16, 1)", floats(&sum(&sequence)))),
    ] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, &array).unwrap();
    }
    archive.finish().unwrap();
    let text = format!(
        "[data]\nset = \"arrays\"\npath = {path:?}\ninputs = [\"series\", \"steps\"]\ntargets = [\"sum\"]\n[model]\nlayers = [\n\
         {{ gru = 8, lengths = \"steps\", output = \"state\" }}, {{ linear = 8, init = \"lsuv\" }}, \"tanh\", {{ linear = 1 }}]\n\
         [optimizer]\nname = \"adam\"\nrate = 0.02\n[train]\nsteps = 60\nbatch = 8"
    );
    let spec = Spec::parse("sequences.toml", &text).unwrap();
    let experiment = Experiment::new("sequences", spec, None).unwrap();
    let run = experiment.create_run(&folder.path().join("runs")).unwrap();
    let options = Options { quiet: true, save_every: Some(SaveEvery::Steps(60)), ..Options::default() };
    experiment.train(&run, &options, &std::sync::atomic::AtomicBool::new(false), |_| ()).unwrap();
    let mut asked = Experiment::open(&run).unwrap();
    let network = asked.trained(&run, false).unwrap();
    let (_, set) = asked.part(Some(chainrule_train::experiment::Part::Train)).unwrap();
    let loss = asked.evaluate(&network, set, None).unwrap().numbers.get("loss").unwrap();
    assert!(loss < 0.5 * f64::from(sum(&sequence).square().mean(..).item::<f32>()), "{loss}");
}
