//! Programs: their text, what passes do to them, what they cost, and the memory they are given.
use chainrule::execute::eval_all;
use chainrule::optimize::{PASSES, optimize, optimize_without};
use chainrule::plan::{Plan, PlanOptions};
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Kind, Numbers, Program, capture, interpret};
use chainrule::tensor::{Binary, Op};

fn named(names: &[&str], tensors: &[Tensor]) -> Vec<(String, Tensor)> {
    names.iter().map(|name| name.to_string()).zip(tensors.iter().cloned()).collect()
}

/// The loss of a small layer and its gradient.
fn layer() -> (Vec<(String, Tensor)>, Program) {
    let (w, b) = (Tensor::full([3, 2], 0.5, DType::F32).eval(), Tensor::full([2], 0.1, DType::F32).eval());
    let x = Tensor::full([4, 3], 1.0, DType::F32).eval();
    let loss = |(w, b): &(Tensor, Tensor)| (x.matmul(w) + b).tanh().square().sum(..);
    let (value, g) = value_and_grad(loss, &(w.clone(), b.clone()));
    let inputs = named(&["w", "b", "x"], &[w, b, x.clone()]);
    let program = capture("layer", &inputs, &[value, g.0, g.1]).unwrap();
    (inputs, program)
}

#[test]
fn the_text_of_a_gradient() {
    let (_, program) = layer();
    assert_eq!(
        program.listing(),
        "\
%3 : f32[4,2] = dot x w [1]×[0]
%4 : f32[4,2] = broadcast b axes=[1]
%5 : f32[4,2] = add %3 %4
%6 : f32[4,2] = tanh %5
%7 : f32[4,2] = mul %6 %6
%8 : f32[] = sum %7 axes=[0, 1]
%9 : f32[] = constant 1.0
%10 : f32[1,1] = reshape %9
%11 : f32[4,2] = broadcast %10 axes=[0, 1]
%12 : f32[4,2] = mul %6 %11
%13 : f32[4,2] = mul %11 %6
%14 : f32[4,2] = add %13 %12
%15 : f32[4,2] = constant 1.0
%16 : f32[4,2] = sub %15 %7
%17 : f32[4,2] = mul %14 %16
%18 : f32[2] = sum %17 axes=[0]
%19 : f32[2,4] = permute %17 axes=[1, 0]
%20 : f32[2,3] = dot %19 x [1]×[0]
%21 : f32[3,2] = permute %20 axes=[1, 0]
return %8, %21, %18
"
    );
    assert_eq!(
        optimize(program).listing(),
        "\
%3 : f32[4,2] = dot x w [1]×[0]
%4 : f32[4,2] = broadcast b axes=[1]
%6, %7 : f32[4,2], f32[4,2] = fused %3 %4
  (in.0: f32[4,2], in.1: f32[4,2])
    %2 : f32[4,2] = add in.0 in.1
    %3 : f32[4,2] = tanh %2
    %4 : f32[4,2] = mul %3 %3
    return %3, %4
%8 : f32[] = sum %7 axes=[0, 1]
%17 : f32[4,2] = fused %6 %7
  (in.0: f32[4,2], in.1: f32[4,2])
    %1 : f32[4,2] = add in.0 in.0
    %2 : f32[4,2] = constant 1.0
    %4 : f32[4,2] = sub %2 in.1
    %5 : f32[4,2] = mul %1 %4
    return %5
%18 : f32[2] = sum %17 axes=[0]
%21 : f32[3,2] = dot x %17 [0]×[0]
return %8, %21, %18
"
    );
}

#[test]
fn the_text_names_inputs_and_lines() {
    let (_, program) = layer();
    let text = program.to_string();
    assert!(text.starts_with("program layer(w: f32[3,2], b: f32[2], x: f32[4,3])\n"), "{text}");
    let line = text.lines().find(|line| line.contains("dot x w")).unwrap();
    assert!(line.contains("programs.rs:"), "{line}");
    assert!(
        text.contains("(derivative of tanh)") && text.contains("(transpose of dot)")
            || text.contains("(derivative of dot)"),
        "{text}"
    );
}

#[test]
fn broken_programs_are_found() {
    type Break = (&'static str, fn(&mut Program), &'static str);
    let breaks: [Break; 9] = [
        ("order", |p| p.instructions.swap(0, 2), "before it is made"),
        (
            "a missing operand",
            |p| {
                p.instructions.remove(1);
            },
            "before it is made",
        ),
        ("a value that is not there", |p| p.instructions[0].inputs[0] = 9999, "before it is made"),
        (
            "an operand too few",
            |p| {
                p.instructions[0].inputs.pop();
            },
            "takes 2 operands",
        ),
        ("another operation", |p| p.instructions[0].kind = Kind::Op(Op::Binary(Binary::Add)), "differ in shape"),
        (
            "a type",
            |p| {
                let v = p.instructions[0].outputs[0];
                p.types[v as usize].shape[0] = 7;
            },
            "is listed as",
        ),
        (
            "made twice",
            |p| {
                let again = p.instructions[0].clone();
                p.instructions.push(again);
            },
            "again",
        ),
        ("an output", |p| p.outputs[0] = 9999, "never made"),
        (
            "an operation with no place",
            |p| p.instructions[2].kind = Kind::Op(Op::Input(p.types[0].clone())),
            "no place",
        ),
    ];
    let (_, whole) = layer();
    assert_eq!(whole.verify(), Ok(()));
    assert_eq!(optimize(whole.clone()).verify(), Ok(()));
    for (what, break_it, said) in breaks {
        let mut program = whole.clone();
        break_it(&mut program);
        let error = program.verify().expect_err(what);
        assert!(error.contains(said), "{what}: {error}");
    }
    let mut fused = optimize(whole);
    for instruction in &mut fused.instructions {
        if let Kind::Fused(body) = &mut instruction.kind {
            body.instructions.swap(0, 1);
        }
    }
    assert!(fused.verify().unwrap_err().contains("fused"));
}

fn numbers(values: &[Interpreted]) -> Vec<f64> {
    let list = values.iter().flat_map(|value| match &value.numbers {
        Numbers::Float(list) => list.clone(),
        Numbers::Int(list) => list.iter().map(|&v| v as f64).collect(),
    });
    list.collect()
}

#[test]
fn each_pass_can_be_switched_off() {
    let (inputs, program) = layer();
    let arguments: Vec<Interpreted> = inputs.iter().map(|(_, tensor)| Interpreted::from_tensor(tensor)).collect();
    let want = numbers(&interpret(&program, &arguments).unwrap());
    let names: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
    let mut off: Vec<Vec<&str>> = names.iter().map(|&name| vec![name]).collect();
    off.extend([vec![], names.clone()]);
    for off in off {
        let better = optimize_without(program.clone(), &off);
        let got = numbers(&interpret(&better, &arguments).unwrap());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "without {off:?}");
        Plan::new(&better, PlanOptions::default());
    }
    assert_eq!(optimize_without(program.clone(), &names).listing(), program.listing());
}

#[test]
fn equal_and_unused_operations_vanish() {
    let x = Tensor::from([1.0, 2.0]);
    let inputs = named(&["x"], std::slice::from_ref(&x));
    let unused = x.exp();
    let y = x.sin() * x.sin() + x.sin();
    let program = capture("f", &inputs, &[y]).unwrap();
    assert_eq!(program.len(), 3, "{program}");
    drop(unused);
    // Equal only after simplification: x + 0 and x·1.
    let y = (&x + 0.0).sin() + (&x * 1.0).sin();
    let program = optimize_without(capture("f", &inputs, &[y]).unwrap(), &["fuse"]);
    assert_eq!(program.len(), 2, "{program}");
    // A loop gives up the outputs nobody reads, and what made them.
    let (last, _) = scan(|c: &Tensor, x: &Tensor| (c + x, c.exp()), &Tensor::from(0.0), &x);
    let program = optimize(capture("f", &inputs, &[last]).unwrap());
    assert!(!program.to_string().contains("exp"), "{program}");
    // A random number is a pure function of its key.
    let key = Key::new(1);
    let program = capture("f", &[], &[key.normal([2], DType::F32) - key.normal([2], DType::F32)]).unwrap();
    assert_eq!(program.instructions.iter().filter(|i| i.kind.name() == "random").count(), 1);
}

#[test]
fn known_counts_of_operations() {
    let count = |y: Tensor| capture("f", &[], &[y]).unwrap().flops();
    let x = |shape: &[usize]| Tensor::ones(shape, DType::F32) + 1.0;
    let own = |shape: &[usize]| shape.iter().product::<usize>() as u64;
    assert_eq!(count(x(&[7, 5])), own(&[7, 5]));
    assert_eq!(count(x(&[7, 5]).matmul(&x(&[5, 3]))), 2 * 7 * 5 * 3 + 35 + 15);
    assert_eq!(count(x(&[2, 7, 5]).matmul(&x(&[2, 5, 3]))), 2 * 2 * 7 * 5 * 3 + 70 + 30);
    assert_eq!(count(x(&[6]).exp()), 60 + 6);
    assert_eq!(count(x(&[6]).sum(..)), 6 + 6);
    assert_eq!(count(x(&[6]) / 3.0), 24 + 6);
    assert_eq!(count(x(&[2, 3]).t().reshape([6])), 6);
    let options = Convolution::default();
    assert_eq!(count(x(&[2, 3, 8, 8]).conv(&x(&[4, 3, 3, 3]), &options)), 2 * 2 * 4 * 36 * 27 + 384 + 108);
    // Terms on padding do not count: 3 × 3 over 8 × 8 with a border of zeros has 22² = 484 terms a channel.
    let options = Convolution { padding: Padding::Both(1), ..options };
    assert_eq!(count(x(&[1, 1, 8, 8]).conv(&x(&[1, 1, 3, 3]), &options)), 2 * 484 + 64 + 9);
    let (last, _) = scan(|c: &Tensor, x: &Tensor| (c * x, ()), &Tensor::from(1.0f32), &x(&[9]));
    assert_eq!(count(last), 9 + 9);
}

type Case = (&'static str, Vec<Tensor>, fn(&Vec<Tensor>) -> Tensor);

fn models() -> [Case; 4] {
    let n = |seed: u64, shape: &[usize]| (Key::new(seed).normal(shape, DType::F32) * 0.1).eval();
    [
        ("mlp", vec![n(1, &[128, 300]), n(2, &[300]), n(3, &[300, 200]), n(4, &[200, 10]), n(5, &[64, 128])], |p| {
            let h = (p[4].matmul(&p[0]) + &p[1]).gelu().matmul(&p[2]).relu();
            h.matmul(&p[3])
                .cross_entropy(&(Tensor::arange(64, DType::I64).cast(DType::F32) * 0.1).floor().cast(DType::I64))
        }),
        ("conv", vec![n(1, &[8, 3, 3, 3]), n(2, &[16, 8, 3, 3]), n(3, &[16 * 25, 10]), n(4, &[4, 3, 28, 28])], |p| {
            let options = Convolution::default();
            let h = p[3].conv(&p[0], &options).relu().max_pool(&Pooling::new(2));
            let h = h.conv(&p[1], &options).relu().max_pool(&Pooling::new(2));
            h.reshape([4, 16 * 25]).matmul(&p[2]).log_softmax(-1).square().mean(..)
        }),
        (
            "transformer",
            vec![n(1, &[64, 192]), n(2, &[64, 64]), n(3, &[64, 256]), n(4, &[256, 64]), n(5, &[2, 32, 64])],
            |p| {
                let mut x = p[4].clone();
                for _ in 0..3 {
                    let heads = |t: &Tensor| t.reshape([2, 32, 4, 16]).permute([0, 2, 1, 3]);
                    let [q, k, v] = x.normalize([-1], 1e-5).matmul(&p[0]).chunk(-1);
                    let scores = heads(&q).matmul(&heads(&k).t()) * 0.25;
                    let mask = Tensor::ones([32, 32], DType::F32).tril(0).greater(0.5);
                    let a = mask.select(&scores, -1e9).softmax(-1).matmul(&heads(&v));
                    x = &x + a.permute([0, 2, 1, 3]).reshape([2, 32, 64]).matmul(&p[1]);
                    x = &x + x.normalize([-1], 1e-5).matmul(&p[2]).gelu().matmul(&p[3]);
                }
                x.square().mean(..)
            },
        ),
        ("recurrent", vec![n(1, &[32, 32]), n(2, &[16, 32]), n(3, &[20, 8, 16])], |p| {
            let body = |h: &Tensor, x: &Tensor| {
                let h = (h.matmul(&p[0]) + x.matmul(&p[1])).tanh();
                (h.clone(), h)
            };
            scan(body, &Tensor::zeros([8, 32], DType::F32), &p[2]).1.square().mean(..)
        }),
    ]
}

#[test]
fn buffers_are_reused() {
    let mut wrong = Vec::new();
    for (name, parameters, f) in models() {
        let mut step = compile(|p: &Vec<Tensor>| value_and_grad(f, p));
        let plan = step.plan(&parameters);
        let (arena, live) = (plan.arena_bytes(), plan.live_bytes());
        println!("{name}: {} steps, arena {arena}, live {live}", plan.len());
        // The arena of a loop's body comes on top of what is alive outside.
        let own = if name == "recurrent" { arena - arena.min(40_000) } else { arena };
        if own as f64 > 1.2 * live as f64 + 1024.0 {
            wrong.push(format!("{name}: arena {arena} for {live}"));
        }
        // The reused buffers hold what they should: the gradient along a direction is the difference of values.
        let (_, g) = step.run(parameters.clone()).unwrap();
        let directions: Vec<Tensor> =
            parameters.iter().zip(100..).map(|(p, seed)| Key::new(seed).normal(p.shape(), DType::F32).eval()).collect();
        let along = directions.iter().zip(&g).map(|(d, g)| (d * g).sum(..)).reduce(|a, b| a + b).unwrap();
        let (_, slope) = jvp(f, &parameters, &directions);
        let values = eval_all(&[along, slope]);
        let (a, b) = (values[0].item::<f32>(), values[1].item::<f32>());
        if (a - b).abs() > 1e-3 * (1e-3 + b.abs()) {
            wrong.push(format!("{name}: gradient {a}, tangent {b}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_gradient_costs_a_few_values() {
    for (name, parameters, f) in models() {
        let value = compile(f).program(&parameters).flops();
        let both = compile(|p: &Vec<Tensor>| value_and_grad(f, p)).program(&parameters).flops();
        let ratio = both as f64 / value as f64;
        println!("{name}: {ratio:.2}");
        assert!(ratio <= 5.0, "{name}: {both} against {value}");
    }
}
