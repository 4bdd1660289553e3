//! What layers do beyond one golden pass: training against evaluation, random parts, state carried by compiled steps,
//! generation from a cache, cut gradients, and what they refuse.

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::layer::{Cell, Recurrent};
use chainrule_nn::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn normal(shape: &[usize], seed: u64) -> Tensor {
    Key::new(seed).normal(shape, DType::F64).eval()
}

/// A model in f64; counters stay integers.
fn double<M: Tree>(model: &M) -> M {
    tree::map(model, |x| if x.dtype().is_float() { x.cast(DType::F64).eval() } else { x.eval() })
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).abs().max(..).cast(DType::F64).item::<f64>()
}

fn training(seed: u64) -> Context {
    Context::training(Key::new(seed))
}

#[test]
fn dropouts_keep_the_mean_and_drop_what_they_say_as_one() {
    let x = Tensor::ones([40, 50, 20], DType::F64);
    type Layer = Box<dyn Fn(&Tensor, &mut Context) -> Tensor>;
    let layers: [(&str, Layer, &[isize]); 3] = [
        ("elements", Box::new(|x, c| Dropout::new(0.3).forward(x, c)), &[]),
        ("channels", Box::new(|x, c| ChannelDropout::new(0.3).forward(x, c)), &[2]),
        ("paths", Box::new(|x, c| PathDropout::new(0.3).forward(x, c)), &[1, 2]),
    ];
    for (name, layer, together) in layers {
        let y = layer(&x, &mut training(5)).eval();
        let values = y.to_vec::<f64>();
        assert!(values.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-12), "{name}");
        let units = y.mean(together);
        let kept = units.greater(0.0).cast(DType::F64).mean(..).item::<f64>();
        let error = (0.3 * 0.7 / units.numel() as f64).sqrt();
        assert!((kept - 0.7).abs() < 4.0 * error, "{name}: {kept} of {} kept", units.numel());
        assert_eq!(distance(&y.max(together), &y.min(together)), 0.0, "{name}: one unit, one fate");
        assert_eq!(distance(&layer(&x, &mut Context::evaluation()), &x), 0.0, "{name}");
        assert!(distance(&layer(&x, &mut training(6)), &y) > 0.0, "{name}: another key, another mask");
        // The mask of the gradient is the mask of the value.
        let slope = grad(|x: &Tensor| layer(x, &mut training(5)).sum(..), &x);
        assert_eq!(distance(&slope, &y), 0.0, "{name}");
    }
    assert_eq!(Dropout::new(1.0).forward(&x, &mut training(1)).max(..).item::<f64>(), 0.0);
    let mut context = training(7);
    let [a, b] = std::array::from_fn(|_| Dropout::new(0.5).forward(&x, &mut context));
    assert!(distance(&a, &b) > 0.0, "two layers of one pass draw differently");
}

#[test]
fn a_compiled_step_carries_running_statistics() {
    let x = normal(&[8, 3, 4], 1) * 2.0 + 1.0;
    let step = |(norm, x): &(BatchNorm, Tensor)| {
        let mut norm = norm.clone();
        let y = norm.forward(x, &mut training(0));
        (norm, y)
    };
    let (mut by_hand, mut compiled) = (double(&BatchNorm::new(3)), double(&BatchNorm::new(3)));
    let mut program = compile(step);
    for _ in 0..50 {
        by_hand = double(&step(&(by_hand, x.clone())).0);
        compiled = program.run((compiled, x.clone())).unwrap().0;
    }
    assert_eq!(compiled.num_batches_tracked.item::<i64>(), 50);
    assert!(distance(&compiled.running_mean, &by_hand.running_mean) < 1e-12);
    // After many passes over one batch, evaluation is training but for the unbiased variance.
    let x_mean = x.mean(&[0isize, 2][..]);
    assert!(distance(&compiled.running_mean, &(&x_mean * (1.0 - 0.9f64.powi(50)))) < 1e-12);
    let variance = x.variance(&[0isize, 2][..], 1) * (1.0 - 0.9f64.powi(50)) + 0.9f64.powi(50);
    assert!(distance(&compiled.running_var, &variance) < 1e-12);
    let before = compiled.clone();
    compiled.forward(&x, &mut Context::evaluation()).eval();
    assert_eq!(distance(&compiled.running_mean, &before.running_mean), 0.0);
}

#[test]
fn gradients_bring_new_statistics_of_nested_blocks_out() {
    let block = double(&ResidualBlock::new(&Key::new(1), 2, 3, 2));
    let x = normal(&[4, 2, 6, 6], 2);
    let loss = |block: &mut ResidualBlock| (block.forward(&x, &mut training(0)).square().mean(..), ());
    let (_, (), after, gradient) = value_and_grad_with_state(loss, &block);
    assert_eq!(after.shortcut.as_ref().unwrap().norm.num_batches_tracked.item::<i64>(), 1);
    assert!(distance(&after.norm2.running_mean, &block.norm2.running_mean) > 0.0);
    assert_eq!(distance(&after.conv1.weight, &block.conv1.weight), 0.0);
    assert!(gradient.conv1.weight.abs().max(..).item::<f64>() > 0.0);
    assert_eq!(gradient.norm1.running_mean.abs().max(..).item::<f64>(), 0.0);
}

/// Each sequence of a padded batch must come out as if it were alone.
fn lengths_are_sequences_alone<C: Cell>(name: &str) {
    let layer: Recurrent<C> = Recurrent::new(&Key::new(1), 2, 3).stacked(&Key::new(2), 2).bidirectional(&Key::new(3));
    let layer = double(&layer);
    let (lengths, steps) = ([4i64, 1, 6], 6);
    let x = normal(&[3, steps, 2], 4);
    let run = |x: &Tensor, lengths: Option<&Tensor>| layer.forward(x, None, lengths, &mut Context::evaluation());
    let (y, last) = run(&x, Some(&Tensor::from(lengths)));
    for (i, &length) in lengths.iter().enumerate() {
        let (alone, end) = run(&x.narrow(0, i, 1).narrow(1, 0, length as usize), None);
        let mine = y.narrow(0, i, 1);
        assert!(distance(&mine.narrow(1, 0, length as usize), &alone) < 1e-12, "{name}: outputs of sequence {i}");
        let rest = mine.narrow(1, length as usize, steps - length as usize);
        assert!(rest.to_vec::<f64>().iter().all(|&v| v == 0.0), "{name}: outputs past the end of sequence {i}");
        for (all, one) in leaves(&last).iter().zip(leaves(&end)) {
            assert!(distance(&all.narrow(1, i, 1), &one) < 1e-12, "{name}: state of sequence {i}");
        }
    }
    // What lies past the end has no gradient.
    let slope = grad(|x: &Tensor| run(x, Some(&Tensor::from(lengths))).0.square().sum(..), &x);
    assert_eq!(slope.at((1, 1..)).abs().max(..).item::<f64>(), 0.0, "{name}");
    // Time first is the same numbers in another order.
    let turned = layer.clone().time_first().forward(&x.swap_axes(0, 1), None, None, &mut Context::evaluation());
    assert_eq!(distance(&turned.0.swap_axes(0, 1), &run(&x, None).0), 0.0, "{name}");
    assert_eq!(distance(&leaves(&turned.1)[0], &leaves(&run(&x, None).1)[0]), 0.0, "{name}");
    // A state handed on is the sequence in one piece.
    let one_way = double(&Recurrent::<C>::new(&Key::new(5), 2, 3));
    let go = |x: &Tensor, state: Option<&C::State>| one_way.forward(x, state, None, &mut Context::evaluation());
    let (first, state) = go(&x.narrow(1, 0, 2), None);
    let (second, _) = go(&x.narrow(1, 2, 4), Some(&state));
    assert!(distance(&concat(&[first, second], 1), &go(&x, None).0) < 1e-12, "{name}");
}

#[test]
fn recurrent_layers_treat_sequences_by_their_lengths() {
    lengths_are_sequences_alone::<chainrule_nn::layer::RnnCell>("rnn");
    lengths_are_sequences_alone::<chainrule_nn::layer::LstmCell>("lstm");
    lengths_are_sequences_alone::<chainrule_nn::layer::GruCell>("gru");
}

#[test]
fn truncation_keeps_values_and_cuts_gradients() {
    let (whole, x) = (double(&Gru::new(&Key::new(1), 2, 3)), normal(&[1, 7, 2], 2));
    let cut = whole.clone().truncated(3);
    let run = |layer: &Gru, x: &Tensor| layer.forward(x, None, None, &mut Context::evaluation()).0;
    assert!(distance(&run(&whole, &x), &run(&cut, &x)) < 1e-14);
    let slope = |layer: &Gru| grad(|x: &Tensor| run(layer, x).at((0, 5)).sum(..), &x);
    let (whole_slope, cut_slope) = (slope(&whole), slope(&cut));
    assert!(whole_slope.at((0, 2)).abs().max(..).item::<f64>() > 1e-6);
    assert_eq!(cut_slope.at((0, ..3)).abs().max(..).item::<f64>(), 0.0);
    assert!(distance(&cut_slope.at((0, 3..)), &whole_slope.at((0, 3..))) < 1e-14);
    // The way back is cut too, from its own start.
    let both = whole.bidirectional(&Key::new(3));
    let both = double(&both);
    assert!(distance(&run(&both, &x), &run(&both.clone().truncated(3), &x)) < 1e-14);
}

#[test]
fn dropout_between_recurrent_layers_is_for_training() {
    let layer = double(&Lstm::new(&Key::new(1), 2, 4).stacked(&Key::new(2), 2).dropout(0.5));
    let x = normal(&[2, 3, 2], 3);
    let run = |context: &mut Context| layer.forward(&x, None, None, context).0;
    let plain = run(&mut Context::evaluation());
    assert_eq!(distance(&plain, &layer.clone().dropout(0.0).forward(&x, None, None, &mut training(1)).0), 0.0);
    assert!(distance(&plain, &run(&mut training(1))) > 0.0);
}

#[test]
fn generation_from_a_cache_is_the_whole_pass() {
    let block = EncoderBlock::new(&Key::new(1), 16, 4, 8).pre_norm().causal();
    let block = double(&block.attention(|a| a.key_heads(2).rotary(Rotary::new())));
    let x = normal(&[2, 7, 16], 2);
    let want = block.forward(&x, None, &mut Context::evaluation()).eval();
    let mut cache = double(&block.attention.cache(2, 9));
    let start = block.forward_cached(&x.narrow(1, 0, 3), &mut cache);
    assert!(distance(&start, &want.narrow(1, 0, 3)) < 1e-12);
    // One compiled step serves all further places.
    let mut step = compile(|(block, x, cache): &(EncoderBlock, Tensor, chainrule_nn::layer::KeyValueCache)| {
        let mut cache = cache.clone();
        (block.forward_cached(x, &mut cache), cache)
    });
    for i in 3..7 {
        let (y, next) = step.run((block.clone(), x.narrow(1, i, 1), cache)).unwrap();
        assert!(distance(&y, &want.narrow(1, i, 1)) < 1e-12, "place {i}");
        cache = next;
    }
    assert_eq!(cache.length.item::<i64>(), 7);
    // Two more fit; a third is an error rather than a wrong text.
    cache = step.run((block.clone(), x.narrow(1, 0, 1), cache)).unwrap().1;
    cache = step.run((block.clone(), x.narrow(1, 0, 1), cache)).unwrap().1;
    assert!(step.run((block.clone(), x.narrow(1, 0, 1), cache)).is_err());

    let decoder = double(&DecoderBlock::new(&Key::new(1), 8, 2, 8));
    let (x, memory) = (normal(&[1, 3, 8], 2), normal(&[1, 4, 8], 3));
    let want = decoder.forward(&x, &memory, None, None, &mut Context::evaluation());
    let mut cache = double(&decoder.attention.cache(1, 3));
    for i in 0..3 {
        let y = decoder.forward_cached(&x.narrow(1, i, 1), &memory, None, &mut cache);
        assert!(distance(&y, &want.narrow(1, i, 1)) < 1e-12, "place {i} of the decoder");
    }
}

#[test]
fn masks_hide_exactly_and_leave_no_nan() {
    let layer = double(&Attention::new(&Key::new(1), 4, 2));
    let x = normal(&[2, 3, 4], 2);
    let run = |x: &Tensor, mask: &Tensor| layer.forward(x, x, Some(mask), &mut Context::evaluation());
    let mask = length_mask(&Tensor::from([2i64, 3]), 3);
    let slope = grad(|x: &Tensor| run(x, &mask).at((0, ..2)).sum(..), &x);
    assert_eq!(slope.at((0, 2)).abs().max(..).item::<f64>(), 0.0);
    let alone = x.narrow(0, 0, 1).narrow(1, 0, 2);
    let want = layer.forward(&alone, &alone, None, &mut Context::evaluation());
    assert!(distance(&run(&x, &mask).at((0..1, ..2)), &want) < 1e-14);
    let nothing = Tensor::full([3, 3], 0.0, DType::Bool);
    let slope = grad(|x: &Tensor| run(x, &nothing).sum(..), &x);
    assert!(slope.to_vec::<f64>().iter().all(|v| v.is_finite()));
    // Dropout of the probabilities in training only.
    let dropped = layer.clone().dropout(0.5);
    let pass = |context: &mut Context| dropped.forward(&x, &x, None, context);
    let plain = layer.forward(&x, &x, None, &mut Context::evaluation());
    assert_eq!(distance(&pass(&mut Context::evaluation()), &plain), 0.0);
    assert!(distance(&pass(&mut training(1)), &plain) > 0.0);
}

#[test]
fn blocks_with_zero_branches_start_as_the_identity() {
    let x = normal(&[2, 3, 8], 1);
    let encoder = double(&EncoderBlock::new(&Key::new(1), 8, 2, 16).pre_norm().zero_branches());
    assert_eq!(distance(&encoder.forward(&x, None, &mut Context::evaluation()), &x), 0.0);
    let decoder = double(&DecoderBlock::new(&Key::new(1), 8, 2, 16).pre_norm().zero_branches());
    assert_eq!(distance(&decoder.forward(&x, &x, None, None, &mut Context::evaluation()), &x), 0.0);
    let x = normal(&[2, 3, 4, 4], 1);
    let mut block = double(&PreActivationBlock::new(&Key::new(1), 3, 3, 1).zero_branch());
    assert_eq!(distance(&block.forward(&x, &mut training(1)), &x), 0.0);
    let mut block = double(&ResidualBlock::new(&Key::new(1), 3, 3, 1).zero_branch());
    assert_eq!(distance(&block.forward(&x, &mut training(1)), &x.relu()), 0.0);
    let encoder = double(&EncoderBlock::new(&Key::new(1), 8, 2, 16).dropout(0.5));
    let x = normal(&[2, 3, 8], 1);
    let plain = encoder.forward(&x, None, &mut Context::evaluation());
    assert!(distance(&encoder.forward(&x, None, &mut training(1)), &plain) > 0.0);
}

#[test]
fn half_precision_norms_are_computed_in_single() {
    let x = (normal(&[4, 6, 5], 1) * 3.0 + 200.0).cast(DType::F32);
    let half = x.cast(DType::BF16);
    let rounded = half.cast(DType::F32);
    let pairs = [
        (GroupNorm::new(2, 6).forward(&half), GroupNorm::new(2, 6).forward(&rounded)),
        (LayerNorm::new(5).forward(&half), LayerNorm::new(5).forward(&rounded)),
        (RmsNorm::new(5).epsilon(1e-6).forward(&half), RmsNorm::new(5).epsilon(1e-6).forward(&rounded)),
        (BatchNorm::new(6).forward(&half, &mut training(1)), BatchNorm::new(6).forward(&rounded, &mut training(1))),
    ];
    for (got, want) in pairs {
        assert_eq!(got.dtype(), DType::BF16);
        assert_eq!(distance(&got, &want.cast(DType::BF16)), 0.0);
    }
}

#[test]
fn first_values_are_pytorchs() {
    let bound = |x: &Tensor| x.abs().max(..).item::<f32>() as f64;
    let near = |what: &str, got: f64, want: f64| assert!(got <= want && got > 0.97 * want, "{what}: {got} of {want}");
    let conv = Conv::new(&Key::new(1), 16, 32, [3, 3]);
    near("conv", bound(&conv.weight), 1.0 / 144f64.sqrt());
    near("conv bias", bound(conv.bias.as_ref().unwrap()), 1.0 / 144f64.sqrt());
    near("conv in groups", bound(&conv.groups(4).weight), 1.0 / 36f64.sqrt() * (1.0 + 1e-6));
    near("transposed", bound(&ConvTranspose::new(&Key::new(1), 16, 32, [3, 3]).weight), 1.0 / 288f64.sqrt());
    near("bilinear", bound(&Bilinear::new(&Key::new(1), 25, 30, 10).weight), 0.2);
    let lstm = Lstm::new(&Key::new(1), 10, 16);
    near("lstm", bound(&lstm.layers[0].forward.weight_ih), 0.25);
    near("lstm bias", bound(lstm.layers[0].forward.bias_hh.as_ref().unwrap()), 0.25);
    let attention = Attention::new(&Key::new(1), 32, 4);
    near("attention", bound(&attention.query.weight), (6.0 / 128f64).sqrt());
    near("attention output", bound(&attention.output.weight), 1.0 / 32f64.sqrt());
    assert_eq!(
        (bound(attention.key.bias.as_ref().unwrap()), bound(attention.output.bias.as_ref().unwrap())),
        (0.0, 0.0)
    );
    let std = Embedding::new(&Key::new(1), 100, 50).weight.std(.., 0).item::<f32>();
    assert!((std - 1.0).abs() < 0.03);
    let stacked = Gru::new(&Key::new(1), 3, 4).bidirectional(&Key::new(2)).stacked(&Key::new(3), 3);
    assert_eq!(stacked.layers[2].backward.as_ref().unwrap().weight_ih.shape(), [12, 8]);
    let other = Gru::new(&Key::new(1), 3, 4).stacked(&Key::new(3), 3).bidirectional(&Key::new(2));
    assert_eq!(tree::map(&other, |x| Tensor::from(x.numel() as i64)).layers.len(), 3);
    assert_eq!(paths(&other), paths(&stacked));
}

/// Ends an expression that is there for its panic.
fn unused<T>(_: T) {}

#[test]
fn misuse_is_said_in_one_sentence() {
    let x = |shape: &[usize]| Tensor::zeros(shape, DType::F32);
    type Misuse = Box<dyn Fn()>;
    let rows: Vec<(Misuse, &str)> = vec![
        (Box::new(|| unused(Dropout::new(1.5))), "Dropout: a probability is from 0 to 1, not 1.5"),
        (
            Box::new(move || unused(BatchNorm::new(3).forward(&x(&[2, 4]), &mut training(1)))),
            "BatchNorm: f32[2,4] given to 3 channels; the input is [N, 3, …]",
        ),
        (
            Box::new(move || unused(BatchNorm::new(3).forward(&x(&[1, 3]), &mut training(1)))),
            "BatchNorm: f32[1,3] has 1 values a channel; training takes two or more",
        ),
        (Box::new(move || unused(LayerNorm::new([2, 3]).forward(&x(&[3, 2])))), "does not end with the axes [2, 3]"),
        (Box::new(|| unused(GroupNorm::new(3, 4))), "GroupNorm: 3 groups of 4 channels"),
        (Box::new(|| unused(Attention::new(&Key::new(1), 10, 3))), "Attention: 3 heads of a size of 10"),
        (Box::new(|| unused(Conv::new(&Key::new(1), 4, 6, 3).groups(4))), "Conv: 4 groups of a kernel f32[6,4,3]"),
        (
            Box::new(move || unused(Conv::new(&Key::new(1), 4, 6, 3).stride(2).same().forward(&x(&[1, 4, 8])))),
            "Conv: padding `same` with stride [2]",
        ),
        (Box::new(move || unused(Pool::max(5).forward(&x(&[1, 1, 3])))), "Pool: a window of 5 over f32[1,1,3]"),
        (Box::new(move || unused(Pool::max(2).padding(2).forward(&x(&[1, 1, 3])))), "more than half of a window of 2"),
        (Box::new(|| unused(Embedding::new(&Key::new(1), 3, 2).padding(3))), "padding 3 of a table of 3 rows"),
        (
            Box::new(move || {
                unused(Gru::new(&Key::new(1), 3, 4).forward(&x(&[5, 3]), None, None, &mut Context::evaluation()))
            }),
            "recurrent layers take [N, T, in] (or [T, N, in]), not f32[5,3]",
        ),
    ];
    let mut failures = Vec::new();
    for (misuse, want) in rows {
        let panic = catch_unwind(AssertUnwindSafe(misuse)).err();
        let text = panic.and_then(|p| p.downcast_ref::<String>().cloned()).unwrap_or_default();
        if !text.contains(want) {
            failures.push(format!("{text:?} instead of {want:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
