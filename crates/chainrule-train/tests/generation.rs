//! Tokens that come step by step are those of a pass over the whole window for each.

use chainrule::prelude::*;
use chainrule::tensor::Type;
use chainrule::tree;
use chainrule_nn::models::Sampling;
use chainrule_train::data::ExampleType;
use chainrule_train::experiment::{Continuation, decode};
use chainrule_train::model::{Network, Spec};

const WINDOW: usize = 12;
const TOKENS: usize = 9;

fn built(text: &str, inputs: usize) -> Network {
    let tokens = Type::new(DType::I64, [WINDOW]);
    let example = ExampleType { inputs: vec![tokens.clone(); inputs], targets: vec![tokens], classes: Some(TOKENS) };
    let spec = Spec::parse("model.toml", text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let network = spec.build(&example, &Key::new(3)).unwrap_or_else(|error| panic!("{text}: {error}"));
    // Larger than they start, so that what is said depends on what was, and where.
    tree::map_named(&network, |path, _, leaf| (leaf * if path.contains("places") { 100.0 } else { 3.0 }).eval())
}

fn said(run: impl FnOnce(&mut dyn FnMut(u32) -> bool)) -> Vec<u32> {
    let mut tokens = Vec::new();
    run(&mut |token| {
        tokens.push(token);
        true
    });
    tokens
}

/// Layers of language models, and whether they can go step by step.
const MODELS: [(&str, bool); 13] = [
    ("kind = \"gpt\"\nlayers = 2\nheads = 2\nwidth = 16", true),
    ("kind = \"gpt\"\nlayers = 1\nheads = 4\nwidth = 16\ncontext = 40\nbias = false\nactivation = \"relu\"", true),
    (
        "layers = [{ embedding = 16 }, { encoder = 4, causal = true, rotary = true, key_heads = 2, norm = \"post\" },
          \"rms_norm\", { linear = \"classes\" }]",
        true,
    ),
    (
        "layers = [{ embedding = 16 }, \"sinusoidal_positions\", { residual = [\"layer_norm\", { attention = 2,
          causal = true }] }, { residual = [{ linear = 32 }, \"glu\", { feed_forward = 8 }], repeat = 2 },
          { linear = \"classes\" }]",
        true,
    ),
    ("layers = [{ embedding = 8 }, { lstm = 16, layers = 2, dropout = 0.1 }, { linear = \"classes\" }]", true),
    ("layers = [{ embedding = 8 }, { gru = 16, truncate = 4 }, \"gelu\", { linear = \"classes\" }]", true),
    (
        "layers = [{ embedding = 16, name = \"tokens\" }, { concat = [[{ rnn = 8 }], [{ linear = 8 }, \"tanh\"]],
          axis = 2 }, { tied = \"tokens\" }]",
        true,
    ),
    // Positions and a recurrence: the window bounds it.
    ("layers = [{ embedding = 8 }, { learned_positions = true }, { gru = 16 }, { linear = \"classes\" }]", true),
    // These look ahead, or mix places in a way of their own.
    ("layers = [{ embedding = 8 }, { encoder = 2 }, { linear = \"classes\" }]", false),
    ("layers = [{ embedding = 8 }, { lstm = 8, bidirectional = true }, { linear = \"classes\" }]", false),
    ("layers = [{ embedding = 8 }, { softmax = 1 }, { linear = \"classes\" }]", false),
    ("layers = [{ embedding = 8 }, { layer_norm = true, axes = 2 }, { linear = \"classes\" }]", false),
    ("layers = [{ embedding = 8 }, { residual = [{ reshape = [12, 8] }] }, { linear = \"classes\" }]", false),
];

#[test]
fn steps_say_what_whole_windows_say() {
    let prompts: [&[u32]; 3] = [&[1], &[4, 2, 7, 1, 8], &[3; WINDOW - 1]];
    let samplings = [Sampling::greedy(), Sampling { temperature: 0.9, top_k: Some(6), top_p: Some(0.95) }];
    let mut wrong = Vec::new();
    for (model, by_step) in MODELS {
        let network = built(&format!("[model]\n{model}"), 1);
        let carried = network.carried(&Type::new(DType::I64, [1, 1]), None, WINDOW);
        if carried.is_some() != by_step {
            wrong.push(format!("{model}: by steps {}", carried.is_some()));
        }
        for (prompt, sampling) in prompts.iter().flat_map(|prompt| samplings.map(|sampling| (*prompt, sampling))) {
            // Token after token up to the last that the window holds, and the one after it.
            let tokens = WINDOW + 1 - prompt.len();
            let goes = Continuation { tokens, sampling, seed: 5, window: WINDOW };
            let steps = said(|each| goes.run(&network, prompt, each).unwrap());
            let windows = said(|each| goes.by_windows(&network, prompt, each).unwrap());
            if steps != windows || steps.len() != tokens {
                wrong.push(format!("{model} from {prompt:?} by {sampling:?}: {steps:?}, not {windows:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_full_window_begins_again_with_its_last_half() {
    let network = built("[model]\nkind = \"gpt\"\nlayers = 2\nheads = 2\nwidth = 16", 1);
    let (half, prompt) = (WINDOW / 2, [2, 5, 5]);
    let goes = |tokens| Continuation { tokens, sampling: Sampling::greedy(), seed: 0, window: WINDOW };
    let tokens = 40;
    let steps = said(|each| goes(tokens).run(&network, &prompt, each).unwrap());
    assert_eq!(steps.len(), tokens);
    // The same, piece by piece: a piece ends with the token that a full window gives.
    let mut all = prompt.to_vec();
    while all.len() < prompt.len() + tokens {
        let begin = if all.len() > WINDOW { all.len() - half } else { 0 };
        let seen = all[begin..].to_vec();
        all.extend(said(|each| goes(WINDOW + 1 - seen.len()).by_windows(&network, &seen, each).unwrap()));
    }
    assert_eq!(steps[..], all[prompt.len()..prompt.len() + tokens]);
    // A prompt longer than the window: its end counts.
    let long: Vec<u32> = (0..30).map(|i| i * i % TOKENS as u32).collect();
    let one = said(|each| goes(1).run(&network, &long, each).unwrap());
    assert_eq!(one, said(|each| goes(1).by_windows(&network, &long, each).unwrap()));
}

#[test]
fn a_recurrent_network_goes_on_without_end() {
    let network = built("[model]\nlayers = [{ embedding = 8 }, { lstm = 16 }, { linear = \"classes\" }]", 1);
    let goes = |window| Continuation { tokens: 50, sampling: Sampling::plain(), seed: 1, window };
    let short = said(|each| goes(WINDOW).run(&network, &[1, 2], each).unwrap());
    // What a window of all tokens says.
    assert_eq!(short, said(|each| goes(60).by_windows(&network, &[1, 2], each).unwrap()));
}

#[test]
fn a_decoder_answers_a_batch_by_steps() {
    let decoder = "{ learned_positions = true, name = \"places\" }, { decoder = 2, repeat = 2 }, \"layer_norm\", { linear = \"classes\", bias = false }";
    let whole = |rest: &str| {
        format!(
            "[model]\nkind = \"encoder-decoder\"\n[model.encoder]\nlayers = [{{ embedding = 16, name = \"tokens\" }},
             {{ encoder = 2 }}]\n[model.decoder]\nlayers = [{{ embedding = 16 }}, {rest}]"
        )
    };
    let shared = decoder.replace("{ linear = \"classes\", bias = false }", "{ tied = \"tokens\" }");
    let looking_ahead = decoder.replace("{ linear", "{ transpose = true }, { transpose = true }, { linear");
    let sources: Vec<i64> = (0..4 * WINDOW as i64).map(|i| i * i * 7 % TOKENS as i64).collect();
    let sources = Tensor::from_vec(sources, [4, WINDOW]);
    for layers in [decoder, &shared, &looking_ahead] {
        let network = built(&whole(layers), 2);
        let answers = decode(&network, &sources, &Tensor::zeros([4, 1], DType::I64), WINDOW).unwrap();
        // Each token is the likeliest after those said before.
        let given = answers.iter().flat_map(|answer| [&[0], &answer[..WINDOW - 1]].concat()).collect::<Vec<i64>>();
        let given = Tensor::from_vec(given, [4, WINDOW]);
        let likeliest = network.evaluate(&[sources.clone(), given]).argmax(-1).to_vec::<i64>();
        assert_eq!(answers.concat(), likeliest, "{layers}");
        assert!(answers.concat().iter().any(|token| *token != answers[0][0]), "{layers}: {answers:?}");
    }
}
