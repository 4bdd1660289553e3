//! Models in files, as their users see them: what is built, and how a mistake is shown.
mod mistakes;

use chainrule::prelude::*;
use chainrule::tensor::Type;
use chainrule_nn::prelude::*;
use chainrule_train::data::ExampleType;
use chainrule_train::model::{ModelError, Spec};
use mistakes::Broken;

/// 28 by 28 pictures of ten classes.
fn pictures() -> ExampleType {
    ExampleType {
        inputs: vec![Type::new(DType::F32, [1, 28, 28])],
        targets: vec![Type::new(DType::I64, [])],
        classes: Some(10),
    }
}

fn mistake(text: &str) -> Option<ModelError> {
    Spec::parse("model.toml", text).and_then(|spec| spec.check(&pictures())).err()
}

const BROKEN: &[Broken] = &[
    (
        "[model]\nlayers = []\n[data]\nset = \"digts\"",
        4,
        "\"digts\"",
        "[data]: unknown variant `digts`",
        "did you mean `digits`?",
    ),
    (
        "[model]\nlayers = []\n[data]\nset = \"sorting\"\nvalidation = 0.1",
        5,
        "validation",
        "the set sorting has no option `validation`",
        "it is one of: length, vocabulary, examples, seed",
    ),
    (
        "[model]\nlayers = [\"flatten\",\n  { linaer = 10 }]",
        3,
        "linaer",
        "there is no layer `linaer`",
        "did you mean `linear`?",
    ),
    ("[model]\nlayers = [\"relo\"]", 2, "\"relo\"", "there is no layer `relo`", "did you mean `relu`?"),
    (
        "[model]\nlayers = [{ conv = 8, kernal = 3 }]",
        2,
        "kernal",
        "`conv` has no option `kernal`",
        "did you mean `kernel`?",
    ),
    (
        "[model]\nlayers = [{ conv = 0 }]",
        2,
        "0",
        "`conv` is a whole number from 1, or \"same\", \"2x\" of what comes in, or \"classes\", not 0",
        "",
    ),
    (
        "[model]\nlayers = [{ conv = 8, kernel = 31 }]",
        2,
        "31",
        "`conv` reaches over 31 places, and [1, 28, 28] comes in",
        "at most 28 fit, or padding = 2",
    ),
    (
        "[model]\nlayers = [{ conv = 8, groups = 3 }]",
        2,
        "3",
        "3 groups do not divide 1 channels that come in",
        "it is one of: 1",
    ),
    (
        "[model]\nlayers = [\"flatten\", { conv = 8 }]",
        2,
        "{ conv = 8 }",
        "`conv` takes [channels, …] with one to three axes of space, and [784] comes in",
        "put { reshape = [1, 28, 28] } before it if these are images",
    ),
    (
        "[model]\nlayers = [{ lstm = 8 }]",
        2,
        "{ lstm = 8 }",
        "`lstm` takes [time, features], and [1, 28, 28] comes in",
        "put \"flatten\" before it",
    ),
    (
        "[model]\nlayers = [\"flatten\", { linear = 12 }]",
        2,
        "{ linear = 12 }",
        "the network ends in [12], and the data has 10 classes",
        "end it with { linear = 10 }",
    ),
    (
        "[model]\nlayers = [{ embedding = 8 }]",
        2,
        "{ embedding = 8 }",
        "`embedding` takes integers, and f32 of [1, 28, 28] come in",
        "leave it out: these are numbers already",
    ),
    (
        "[model]\nlayers = [{ residual = [{ conv = 8, padding = 1 }] }]",
        2,
        "{ residual = [{ conv = 8, padding = 1 }] }",
        "the branch gives [8, 28, 28] and what comes in is [1, 28, 28]: they cannot be added",
        "add shortcut = [ … ] that makes [8, 28, 28] of [1, 28, 28], such as a convolution with kernel = 1",
    ),
    (
        "[model]\nlayers = [{ reshape = [3, 28] }]",
        2,
        "[3, 28]",
        "[3, 28] cannot hold the 784 numbers of [1, 28, 28]",
        "",
    ),
    (
        "[model]\nlayers = [{ block = \"stem\" }]",
        2,
        "\"stem\"",
        "there is no block `stem`",
        "describe it: [block.stem] with layers = [ … ]",
    ),
    (
        "[block.a]\nlayers = [{ block = \"a\" }]\n[model]\nlayers = [{ block = \"a\" }]",
        2,
        "\"a\"",
        "the block `a` is inside itself",
        "",
    ),
    (
        "[model]\nlayers = [{ tied = \"tokens\" }]",
        2,
        "\"tokens\"",
        "no earlier layer of the name `tokens` has a weight alone",
        "name the embedding: { embedding = 28, name = \"tokens\" }",
    ),
    (
        "[model]\nlayers = [{ decoder = 4 }]",
        2,
        "{ decoder = 4 }",
        "`decoder` takes [time, width], and [1, 28, 28] comes in",
        "put \"flatten\" before it",
    ),
    (
        "[model]\nlayers = [{ mean = 1 }, { attention = 5 }]",
        2,
        "5",
        "5 heads do not divide a width of 28",
        "it is one of: 1, 2, 4, 7, 14, 28",
    ),
    (
        "[model]\nlayers = [{ linear = 8, name = \"a\" }, { linear = 8, name = \"a\" }]",
        2,
        "\"a\"",
        "two layers of one list are called `a`",
        "",
    ),
    (
        "[model]\nlayers = [{ linear = 8, init = \"kaiming\" }]",
        2,
        "\"kaiming\"",
        "there is no `init` of the name `kaiming`",
        "did you mean `kaiming_normal`?",
    ),
    (
        "[model]\nlayers = [{ kernel = 3, conv = 8 }]",
        2,
        "kernel",
        "there is no layer `kernel`",
        "write `conv` first: the first key says what the layer is",
    ),
    (
        "[model]\nlayers = [3]",
        2,
        "3",
        "3 is no layer",
        "a layer is a word such as \"relu\" or a table such as { linear = 128 }",
    ),
    ("[model]\nlayers = [", 2, "", "this is no TOML: unclosed array, expected `]`", ""),
    ("[data]\nset = \"digits\"", 1, "", "the file has no [model]", "add [model] with layers = [ … ]"),
    ("[model]\nlayers = []\n[trian]\nepochs = 3", 3, "trian", "there is no section `trian`", "did you mean `train`?"),
    (
        "[model]\nlayers = []\n[train]\nepochs = 3\nsteps = 9",
        5,
        "9",
        "[train] has both `epochs` and `steps`",
        "a training ends after one of them: leave the other out",
    ),
    (
        "[model]\nlayers = []\n[train]\nprecision = \"f64\"",
        4,
        "\"f64\"",
        "`precision` cannot be \"f64\"",
        "it is one of: f32, bf16, f16",
    ),
    (
        "[model]\nlayers = []\n[loss]\nname = \"cross_entrpy\"",
        4,
        "\"cross_entrpy\"",
        "there is no loss `cross_entrpy`",
        "did you mean `cross_entropy`?",
    ),
    (
        "[model]\nlayers = []\n[optimizer]\nname = \"adm\"\nrate = 0.1",
        4,
        "\"adm\"",
        "there is no optimizer `adm`",
        "did you mean `adam`?",
    ),
    (
        "[model]\nlayers = []\n[optimizer]\nname = \"sgd\"\nrate = 0.1\nbetas = [0.9, 0.99]",
        6,
        "betas",
        "the optimizer has no setting `betas`",
        "it is one of: momentum, dampening, nesterov",
    ),
    (
        "[model]\nlayers = []\n[optimizer]\nname = \"sgd\"\nrate = -1.0",
        5,
        "-1.0",
        "`rate` is -1; it must be a number above 0",
        "",
    ),
    (
        "[model]\nlayers = []\n[report]\nmetrics = [\"acuracy\"]",
        4,
        "\"acuracy\"",
        "there is no metric \"acuracy\"; there are accuracy, top5, f1, f1-micro, confusion, perplexity, bits-per-character, r2, mae, mse, rmse, exact",
        "",
    ),
    ("[model]\nlayers = []\n[watch]\nevry = 10", 4, "evry", "[watch] has no option `evry`", "did you mean `every`?"),
    ("[model]\nlayers = []\n[watch]\nevery = 0", 4, "0", "`every` is a whole number from 1, not 0", ""),
    ("[model]\nlayers = []\n[watch]\non = \"yes\"", 4, "\"yes\"", "`on` is true or false, not \"yes\"", ""),
    ("watch = true\n[model]\nlayers = []", 1, "true", "[watch] is a table, not true", ""),
    ("[model]\nkind = \"gtp\"\nlayers = 2", 2, "\"gtp\"", "there is no model `gtp`", "did you mean `gpt`?"),
];

#[test]
fn mistakes_are_shown_at_their_line() {
    mistakes::are_shown(BROKEN, mistake);
}

#[test]
fn a_message_shows_the_line_and_marks_the_place() {
    let error = mistake("[model]\nlayers = [\n  \"flatten\",\n  { linear = 12 },\n]").unwrap();
    let shown = "the network ends in [12], and the data has 10 classes\n --> model.toml:4:3\n  |\n\
                 4 |   { linear = 12 },\n  |   ^^^^^^^^^^^^^^^\n  |\n  = help: end it with { linear = 10 }";
    assert_eq!(error.to_string(), shown);
}

#[test]
fn every_recipe_can_be_built() {
    let mut failures = Vec::new();
    for recipe in chainrule_train::model::recipes() {
        let built = Spec::parse(recipe.name, recipe.text).and_then(|spec| {
            let example = spec.example().cloned().expect("a recipe says what its examples are");
            let network = spec.build(&example, &Key::new(1))?;
            spec.optimizer(&network, 100)?;
            let summary = spec.summary(&example)?;
            Ok((parameter_count(&network), summary.parameters))
        });
        match built {
            Ok((network, summary)) if network == summary && network > 1000 => {}
            other => failures.push(format!("{}: {other:?}", recipe.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_documentation_has_every_kind_and_its_example_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/model-files.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (front, rest) = text.split_once("<!-- reference -->\n").expect("the mark of the reference");
    let reference = chainrule_train::model::reference();
    if rest != reference {
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        if update {
            std::fs::write(path, format!("{front}<!-- reference -->\n{reference}")).unwrap();
        }
        assert!(
            update,
            "docs/model-files.md is not up to date: run this test with UPDATE_DOCS=1, and look at the change"
        );
    }
    let examples = front.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let specs: Vec<Spec> = examples.map(|example| Spec::parse("example", example).unwrap()).collect();
    let networks: Vec<_> =
        specs.iter().map(|spec| spec.build(spec.example().unwrap(), &Key::new(1)).unwrap()).collect();
    let (spec, network) = (&specs[0], &networks[0]);
    let names = paths(network);
    for name in ["stem.weight", "wide.0.weight", "deep.1.branch.0.weight"] {
        assert!(names.iter().any(|path| path == name), "{name} is not in {names:?}");
    }
    spec.optimizer(network, 100).unwrap();
}

/// The same network from a file and as a layer written in Rust, whose leaves it gets.
fn same<L: Tree>(
    failures: &mut Vec<String>,
    text: &str,
    sizes: &[usize],
    layer: &L,
    forward: impl Fn(&L, &Tensor) -> Tensor,
) {
    let example =
        ExampleType { inputs: vec![Type::new(DType::F32, sizes.iter().copied())], targets: vec![], classes: None };
    let network = match Spec::parse("one.toml", &format!("[model]\nlayers = [{text}]"))
        .and_then(|spec| spec.build(&example, &Key::new(3)))
    {
        Ok(network) => network,
        Err(error) => return failures.push(error.to_string()),
    };
    let names = |paths: Vec<String>, front: &str| paths.iter().map(|path| format!("{front}{path}")).collect::<Vec<_>>();
    let (from_file, in_rust) = (paths(&network), names(paths(layer), "0."));
    if from_file != in_rust {
        return failures.push(format!("{text}: {from_file:?} against {in_rust:?}"));
    }
    let layer = chainrule::tree::rebuild(layer, &leaves(&network));
    let x = Key::new(4).normal([&[2], sizes].concat(), DType::F32);
    let (a, b) = (network.evaluate(std::slice::from_ref(&x)), forward(&layer, &x));
    if a.shape() != b.shape() || a.to_vec::<f32>() != b.to_vec::<f32>() {
        failures.push(format!("{text}: {} against {}", a.ty(), b.ty()));
    }
}

#[test]
fn a_layer_of_a_file_is_the_layer_of_the_crate() {
    let (mut failures, key) = (Vec::new(), Key::new(1));
    let quiet = Context::evaluation;
    let f = &mut failures;
    same(f, "{ linear = 3 }", &[5], &Linear::new(&key, 5, 3), |l, x| l.forward(x));
    same(f, "{ linear = 3, bias = false }", &[4, 5], &Linear::new(&key, 5, 3).without_bias(), |l, x| l.forward(x));
    let conv = Conv::new(&key, 4, 6, [3, 3]).stride(2).padding(1).groups(2);
    same(f, "{ conv = 6, stride = 2, padding = 1, groups = 2 }", &[4, 7, 7], &conv, |l, x| l.forward(x));
    let grow = ConvTranspose::new(&key, 4, 2, [4, 4]).stride(2).padding(1);
    same(f, "{ conv_transpose = \"0.5x\", kernel = 4, stride = 2, padding = 1 }", &[4, 5, 5], &grow, |l, x| {
        l.forward(x)
    });
    same(f, "{ max_pool = 2 }", &[2, 6, 6], &Pool::max([2, 2]), |l, x| l.forward(x));
    same(
        f,
        "{ avg_pool = 3, stride = 1, padding = 1, count_padding = false }",
        &[2, 6],
        &Pool::average(3).stride(1).padding(1).without_padding(),
        |l, x| l.forward(x),
    );
    same(f, "\"batch_norm\"", &[3, 4], &BatchNorm::new(3), |l, x| l.clone().forward(x, &mut quiet()));
    same(f, "{ layer_norm = true, axes = 2, epsilon = 0.1 }", &[3, 4], &LayerNorm::new([3, 4]).epsilon(0.1), |l, x| {
        l.forward(x)
    });
    same(f, "\"rms_norm\"", &[3, 4], &RmsNorm::new(4), |l, x| l.forward(x));
    same(f, "{ group_norm = 2 }", &[4, 3], &GroupNorm::new(2, 4), |l, x| l.forward(x));
    same(f, "\"instance_norm\"", &[4, 3], &InstanceNorm::new(4), |l, x| l.clone().forward(x, &mut quiet()));
    let lstm = Lstm::new(&key, 3, 4).bidirectional(&key).stacked(&key, 2);
    same(f, "{ lstm = 4, layers = 2, bidirectional = true }", &[5, 3], &lstm, |l, x| {
        l.forward(x, None, None, &mut quiet()).0
    });
    same(f, "{ gru = 4, output = \"state\" }", &[5, 3], &Gru::new(&key, 3, 4), |l, x| {
        l.forward(x, None, None, &mut quiet()).1.squeeze(0)
    });
    same(
        f,
        "{ rnn = 4, activation = \"relu\", bias = false }",
        &[5, 3],
        &Rnn::new(&key, 3, 4).relu().without_bias(),
        |l, x| l.forward(x, None, None, &mut quiet()).0,
    );
    let attention = Attention::new(&key, 8, 4).key_heads(2).causal().rotary(Rotary::new());
    same(f, "{ attention = 4, key_heads = 2, causal = true, rotary = true }", &[5, 8], &attention, |l, x| {
        l.forward(x, x, None, &mut quiet())
    });
    let block = EncoderBlock::new(&key, 8, 2, 32).pre_norm().activation(Activation::Gelu);
    same(f, "{ encoder = 2 }", &[5, 8], &block, |l, x| l.forward(x, None, &mut quiet()));
    let post = EncoderBlock::new(&key, 8, 2, 16).causal();
    same(
        f,
        "{ encoder = 2, hidden = \"2x\", norm = \"post\", causal = true, activation = \"relu\" }",
        &[5, 8],
        &post,
        |l, x| l.forward(x, None, &mut quiet()),
    );
    same(f, "\"learned_positions\"", &[5, 8], &LearnedPositions::new(&key, 5, 8), |l, x| l.forward(x));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_tied_head_trains_the_embedding_it_shares() {
    let text = "[model]\nkind = \"gpt\"\nlayers = 1\nheads = 2\nwidth = 8\n[example]\ninput = [4]\ntokens = 5";
    let spec = Spec::parse("gpt.toml", text).unwrap();
    let network = spec.build(spec.example().unwrap(), &Key::new(1)).unwrap();
    let tokens = Tensor::from([[0i64, 1, 2, 3]]);
    let loss = |n: &chainrule_train::model::Network| n.evaluate(std::slice::from_ref(&tokens)).cross_entropy(&tokens);
    let slope = grad(loss, &network);
    assert_eq!(paths(&network)[..2], ["tokens.weight", "positions.weight"]);
    assert_eq!(paths(&network)[2], "blocks.0.attention.query.weight");
    // Token 4 is never read: its row has a gradient only as one of the head's.
    let row = leaves(&slope)[0].at(4).to_vec::<f32>();
    assert!(row.iter().all(|x| x.is_finite()) && row.iter().any(|&x| x != 0.0), "{row:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn no_text_makes_it_panic(text in "(\\[model\\]\nlayers = )?[\\PC\n]{0,60}") {
        let _ = mistake(&text);
    }
    #[test]
    fn no_layers_make_it_panic(layers in proptest::collection::vec(any_layer(), 0..5)) {
        let _ = mistake(&format!("[model]\nlayers = [{}]", layers.join(", ")));
    }
}

/// A kind with a value and options that it may or may not have.
fn any_layer() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let reference = chainrule_train::model::reference();
    let words = |front: &str| -> Vec<String> {
        let lines = reference.lines().filter_map(|line| line.strip_prefix(front));
        lines.filter_map(|line| line.split('`').next()).filter(|w| !w.contains([' ', '='])).map(str::to_owned).collect()
    };
    let value = prop_oneof![
        (-2i64..9).prop_map(|n| n.to_string()),
        proptest::sample::select(vec![
            "16777216",
            "65536",
            "0.5",
            "\"same\"",
            "\"2x\"",
            "true",
            "[1, 2]",
            "[2, 2, 2]",
            "[\"relu\"]",
            "[[]]",
            "\"state\"",
            "\"input\"",
            "\"a\""
        ])
        .prop_map(str::to_owned),
    ];
    let option = (proptest::sample::select(words("  - `")), value.clone())
        .prop_map(|(name, value)| format!(", {name} = {value}"));
    (proptest::sample::select(words("- `")), value, proptest::collection::vec(option, 0..3))
        .prop_map(|(kind, value, options)| format!("{{ {kind} = {value}{} }}", options.concat()))
}
