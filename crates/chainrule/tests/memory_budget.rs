//! A memory budget changes what is kept and never what comes out: planned figures, bits, measured memory, refusals.
use chainrule::plan::{Part, Plan, PlanOptions, within_budget};
use chainrule::prelude::*;
use chainrule::program::{Kind, Program, capture};
use chainrule::tensor::Op;
use chainrule::{optimize::optimize, tree};

type Weights = Vec<[Tensor; 2]>;
type Given = (Weights, Tensor);
type Function = Box<dyn Fn(&Vec<Tensor>) -> Vec<Tensor>>;

/// x + W₂·relu(W₁·x), many times; a step of gradient descent on the mean square.
fn residual(width: usize, blocks: usize, batch: usize) -> (impl Fn(&Given) -> (Weights, Tensor), Given) {
    let step = |(weights, x): &Given| {
        let loss = |weights: &Weights| {
            let out = weights.iter().fold(x.clone(), |x, [a, b]| &x + x.matmul(a).relu().matmul(b));
            out.square().mean(..)
        };
        let (loss, gradients) = value_and_grad(loss, weights);
        (tree::zip_map(weights, &gradients, |w, g| w - g * 1e-2), loss)
    };
    let weight = |i: usize| Key::new(i as u64).normal([width, width], DType::F32) * 0.05;
    let weights = (0..blocks).map(|i| [weight(2 * i), weight(2 * i + 1)]).collect();
    (step, (weights, Key::new(999).normal([batch, width], DType::F32)))
}

/// The step a user has, before anything is computed.
fn planned<A: Tree, B: Tree>(step: &impl Fn(&A) -> B, arguments: &A, budget: Option<usize>) -> (Plan, Program) {
    let inputs: Vec<(String, Tensor)> =
        tree::named_leaves(arguments).into_iter().map(|(name, _, leaf)| (name, leaf)).collect();
    let program = optimize(capture("step", &inputs, &leaves(&step(arguments))).unwrap());
    match budget {
        None => (Plan::new(&program, PlanOptions::with_state()), program),
        Some(budget) => {
            let found = within_budget(program, PlanOptions::with_state(), budget).unwrap();
            (found.plan, found.program)
        }
    }
}

#[test]
fn a_hundred_blocks_fit_in_a_quarter() {
    let (step, arguments) = residual(256, 100, 4096);
    let (whole, program) = planned(&step, &arguments, None);
    for (share, most) in [(2, 1.17), (3, 1.25), (4, 1.35)] {
        let budget = whole.peak_bytes() / share;
        let (plan, less) = planned(&step, &arguments, Some(budget));
        let work = less.flops() as f64 / program.flops() as f64;
        println!("1/{share}: {} of {} bytes, work {work:.3}", plan.peak_bytes(), whole.peak_bytes());
        assert!(plan.peak_bytes() <= budget && work <= most, "1/{share}: {} bytes, work {work}", plan.peak_bytes());
    }
}

#[test]
fn what_is_recomputed_is_fused_and_stays() {
    let (step, arguments) = residual(16, 12, 64);
    let (whole, _) = planned(&step, &arguments, None);
    let (plan, program) = planned(&step, &arguments, Some(whole.peak_bytes() / 2));
    let again: Vec<_> = program.instructions.iter().filter(|instruction| instruction.is_recomputed()).collect();
    assert!(!again.is_empty() && plan.len() > whole.len());
    // No elementwise operation of the ones that are repeated stands alone with its numbers.
    let alone = |kind: &Kind| matches!(kind, Kind::Op(Op::Compare(_) | Op::Select | Op::Constant(..)));
    assert!(again.iter().all(|instruction| !alone(&instruction.kind)), "{program}");
    assert!(program.to_string().contains("recompute"), "{program}");
}

/// Programs of many kinds, each with arguments.
fn programs() -> Vec<(&'static str, Function, Vec<Tensor>)> {
    fn draw(seed: u64, shape: &[usize]) -> Tensor {
        (Key::new(seed).normal(shape, DType::F32) * 0.3).eval()
    }
    fn gradients(loss: impl Fn(&[Tensor]) -> Tensor + 'static) -> Function {
        Box::new(move |leaves: &Vec<Tensor>| {
            let (value, grads) = value_and_grad(|leaves: &Vec<Tensor>| loss(leaves), leaves);
            grads.into_iter().chain([value]).collect()
        })
    }
    let square = || vec![draw(1, &[32, 32]), draw(2, &[256, 32])];
    let deep = |f: fn(&Tensor, &Tensor, usize) -> Tensor| {
        gradients(move |leaves| (0..10).fold(leaves[1].clone(), |x, i| f(&x, &leaves[0], i)).square().mean(..))
    };
    vec![
        ("tanh", deep(|x, w, _| x.matmul(w).tanh()), square()),
        ("softmax", deep(|x, w, _| x + x.matmul(w).softmax(-1)), square()),
        (
            "dropout",
            deep(|x, w, i| {
                let kept = Key::new(7).fold(&Tensor::from(i as i64)).uniform([256, 32], DType::F32);
                x + kept.less(0.8).select(&x.matmul(w).relu(), x.zeros_like())
            }),
            square(),
        ),
        (
            "checkpoint",
            deep(|x, w, _| {
                checkpoint(|(x, w): &(Tensor, Tensor)| x.matmul(w).sin().matmul(w), &(x.clone(), w.clone()))
            }),
            square(),
        ),
        (
            "bf16",
            deep(|x, w, _| x + x.cast(DType::BF16).matmul(&w.cast(DType::BF16)).tanh().cast(DType::F32)),
            square(),
        ),
        (
            "skips",
            gradients(|leaves| {
                let down: Vec<Tensor> = (0..5)
                    .scan(leaves[1].clone(), |x, _| {
                        *x = x.matmul(&leaves[0]).tanh();
                        Some(x.clone())
                    })
                    .collect();
                down.iter().rev().fold(down[4].clone(), |x, skip| (x.matmul(&leaves[0]) + skip).relu()).square().sum(..)
            }),
            square(),
        ),
        (
            "convolutions",
            gradients(|leaves| {
                let x = (0..6).fold(leaves[1].clone(), |x, _| {
                    &x + x.conv(&leaves[0], &Convolution { padding: Padding::Both(1), ..Convolution::default() }).relu()
                });
                x.max_pool(&Pooling::new(2)).square().mean(..)
            }),
            vec![draw(3, &[4, 4, 3, 3]), draw(4, &[2, 4, 16, 16])],
        ),
        (
            "loop",
            gradients(|leaves| {
                let out = (0..3).fold(leaves[1].clone(), |x, _| {
                    let step = |h: &Tensor, x: &Tensor, w: &Tensor| {
                        let h = (h.matmul(w) + x).tanh();
                        (h.clone(), h)
                    };
                    let sequence = x.reshape([8, 32, 32]);
                    let (_, out) = scan(
                        |h: &Tensor, x: &Tensor| step(h, x, &leaves[0]),
                        &Tensor::zeros([32, 32], DType::F32),
                        &sequence,
                    );
                    out.reshape([256, 32])
                });
                out.square().mean(..)
            }),
            square(),
        ),
        (
            "curvature",
            Box::new(|leaves: &Vec<Tensor>| {
                let loss = |w: &Tensor| (0..6).fold(leaves[1].clone(), |x, _| x.matmul(w).tanh()).square().mean(..);
                vec![hvp(loss, &leaves[0], &leaves[0])]
            }),
            square(),
        ),
    ]
}

#[test]
fn bits_stay_and_memory_is_kept() {
    let mut failures = Vec::new();
    for (name, step, arguments) in programs() {
        let mut all = compile(&step);
        let (whole, want) = (all.plan(&arguments).peak_bytes(), all.run(arguments.clone()).unwrap());
        let mut recomputed = 0;
        for share in [90, 75, 60, 45] {
            let budget = whole * share / 100;
            let mut less = compile(&step).memory_budget(budget);
            let timeline = match less.memory(&arguments, &|_| None) {
                Ok(timeline) => timeline,
                // What is refused names what is possible, and that is.
                Err(error) => {
                    let chainrule::execute::ExecuteError::MemoryBudget(error) = error else {
                        panic!("{name}: {error}")
                    };
                    let kept = compile(&step).memory_budget(error.least).memory(&arguments, &|_| None);
                    if error.least <= budget || error.whole != whole || kept.is_err() {
                        failures.push(format!("{name} {share} %: refused with {error:?}, then {kept:?}"));
                    }
                    continue;
                }
            };
            recomputed += timeline.steps.iter().filter(|step| step.recomputed).count();
            let (held, plan) = (less.held_bytes(&arguments), less.plan(&arguments));
            let most = timeline.steps.iter().map(|step| step.live).max().unwrap();
            if plan.peak_bytes() > budget || held > plan.arena_bytes() || most != plan.live_bytes() {
                failures
                    .push(format!("{name} {share} %: peak {}, held {held}, {most} alive\n{plan}", plan.peak_bytes()));
            }
            let bits = |tensor: &Tensor| tensor.storage().unwrap().bytes().to_vec();
            let got = less.run(arguments.clone()).unwrap();
            if got.iter().map(bits).ne(want.iter().map(bits)) {
                failures.push(format!("{name} {share} %: other bits"));
            }
        }
        if recomputed == 0 {
            failures.push(format!("{name}: nothing was ever recomputed"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_timeline_says_what_is_where() {
    let (step, arguments) = residual(16, 4, 64);
    let layer = |name: &str| Some(name.strip_prefix("0.")?.rsplit_once('.')?.0.to_owned());
    let memory = compile(step).memory(&arguments, &layer).unwrap();
    let saved: Vec<_> = memory.alive(memory.peak_step).filter(|value| value.part == Part::Saved).collect();
    let bytes = |layer: &str| {
        saved.iter().filter(|value| value.layer.as_deref() == Some(layer)).map(|value| value.bytes).sum::<usize>()
    };
    // Of each block its output, what ReLU let through, and a byte for each place where it did not.
    assert_eq!([bytes("1"), bytes("2")], [64 * 16 * 9; 2], "{saved:?}");
    assert!(saved.iter().all(|value| value.line.starts_with("memory_budget.rs:")));
    assert_eq!(memory.arguments.len(), 9);
    let gradients: usize = memory
        .values
        .iter()
        .filter(|value| value.ty == "f32[16,16]" && value.part == Part::Gradient)
        .map(|value| value.bytes)
        .sum();
    assert_eq!(gradients, 8 * 16 * 16 * 4);
}

#[test]
fn what_cannot_be_is_refused_with_the_least_that_can() {
    let (step, arguments) = residual(16, 10, 64);
    let refused = compile(&step).memory_budget(5_000).run(arguments.clone()).unwrap_err();
    let chainrule::execute::ExecuteError::MemoryBudget(error) = &refused else { panic!("{refused}") };
    assert!(refused.to_string().contains(&format!("{} at least", error.least)), "{refused}");
    assert!(error.least < error.whole / 2, "{error:?}");
    assert!(compile(&step).memory_budget(error.least).run(arguments).is_ok());
}
