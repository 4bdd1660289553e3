//! The loader: which examples make up each batch of each epoch, made ahead of time by one thread.
//!
//! The order of an epoch and all that is random in an example are functions of (seed, epoch, example). So a position in
//! a training is two numbers, the epoch and the step in it, and a loader that starts there gives what one that never
//! stopped would have given, bit for bit, with or without the thread. It keeps nothing between epochs.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::random::Random;
use super::{Batch, DataError, Dataset, Draw};

/// What the numbers that shuffle are drawn for; no example draws for this purpose.
const SHUFFLE: u64 = 0x7368_7566;

/// Batches of a data set, epoch by epoch.
///
/// ```
/// use chainrule_train::data::{Arrays, Loader, Targets};
/// use std::sync::Arc;
///
/// let set = Arrays::new(vec![0.0f32; 10 * 3], &[3], Targets::classes((0..10).map(|n| n % 2).collect(), 2)?)?;
/// let loader = Loader::new(Arc::new(set), 4, 7);
/// assert_eq!(loader.steps_per_epoch(), 3);
/// let sizes: Vec<_> = loader.epoch(0, 0).map(|batch| batch.map(|b| b.len())).collect::<Result<_, _>>()?;
/// assert_eq!(sizes, [4, 4, 2]);
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    set: Arc<dyn Dataset>,
    batch: usize,
    seed: u64,
    shuffle: bool,
    drop_last: bool,
    prefetch: usize,
}

impl Loader {
    /// Batches of this many examples for training: shuffled, the last one smaller if they do not come out even, two
    /// made ahead.
    ///
    /// # Panics
    /// If `batch` is 0.
    #[track_caller]
    pub fn new(set: Arc<dyn Dataset>, batch: usize, seed: u64) -> Loader {
        assert!(batch > 0, "a batch of no examples");
        Loader { set, batch, seed, shuffle: true, drop_last: false, prefetch: 2 }
    }

    /// Whether this is a training (the default): a new order each epoch, and examples with what is random in them.
    /// Without it they come in the order of the set, made as for a test.
    pub fn shuffle(mut self, shuffle: bool) -> Loader {
        self.shuffle = shuffle;
        self
    }

    /// Whether a last batch that would be smaller is left out.
    pub fn drop_last(mut self, drop_last: bool) -> Loader {
        self.drop_last = drop_last;
        self
    }

    /// How many batches a thread makes ahead; 0 for no thread.
    pub fn prefetch(mut self, prefetch: usize) -> Loader {
        self.prefetch = prefetch;
        self
    }

    /// What it loads.
    pub fn set(&self) -> &Arc<dyn Dataset> {
        &self.set
    }

    /// Examples a batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Batches of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        match self.drop_last {
            true => self.set.len() / self.batch,
            false => self.set.len().div_ceil(self.batch),
        }
    }

    /// The batches of this epoch from this step on. After an error there is nothing more. Dropping the iterator ends
    /// its thread.
    pub fn epoch(&self, epoch: u64, from_step: usize) -> Batches {
        let plan = Plan {
            order: self.shuffle.then(|| Random::of(&[self.seed, epoch, SHUFFLE]).permutation(self.set.len())),
            loader: self.clone(),
            epoch,
        };
        let steps = from_step..self.steps_per_epoch();
        if self.prefetch == 0 || steps.len() < 2 {
            return Batches { left: steps.len(), from: From::Here { plan, next: from_step } };
        }
        let (sender, receiver) = sync_channel(self.prefetch);
        let left = steps.len();
        let work = move || {
            for step in steps {
                let batch = plan.batch(step);
                let last = batch.is_err();
                // Nobody there to take it: the iterator was dropped.
                if sender.send(batch).is_err() || last {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("data".into()).spawn(work);
        let thread = spawned.expect("a thread can be started");
        Batches { left, from: From::Thread { receiver: Some(receiver), thread: Some(thread) } }
    }
}

/// All that decides the batches of one epoch.
struct Plan {
    loader: Loader,
    epoch: u64,
    order: Option<Vec<usize>>,
}

impl Plan {
    fn batch(&self, step: usize) -> Result<Batch, DataError> {
        let Loader { set, batch, seed, .. } = &self.loader;
        let places = step * batch..((step + 1) * batch).min(set.len());
        match &self.order {
            Some(order) => set.batch(&order[places], Some(Draw { seed: *seed, epoch: self.epoch })),
            None => set.batch(&places.collect::<Vec<_>>(), None),
        }
    }
}

/// The rest of an epoch; see [`Loader::epoch`].
pub struct Batches {
    left: usize,
    from: From,
}

enum From {
    Here { plan: Plan, next: usize },
    Thread { receiver: Option<Receiver<Result<Batch, DataError>>>, thread: Option<JoinHandle<()>> },
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = match &mut self.from {
            From::Here { plan, next } => {
                *next += 1;
                plan.batch(*next - 1)
            }
            From::Thread { receiver, thread } => match receiver.as_ref()?.recv() {
                Ok(batch) => batch,
                // The thread ended before its work did: by a panic, which goes on here.
                Err(_) => match thread.take().map(JoinHandle::join) {
                    Some(Err(panic)) => resume_unwind(panic),
                    _ => return None,
                },
            },
        };
        self.left = if batch.is_err() { 0 } else { self.left - 1 };
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends it early.
        (self.left.min(1), Some(self.left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        if let From::Thread { receiver, thread } = &mut self.from {
            drop(receiver.take());
            // A panic in a batch that nobody asked for is nobody's concern.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches({} left)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chainrule::tensor::{DType, Tensor, Type};

    use super::super::ExampleType;
    use super::*;

    /// Examples that are their number and a number drawn for them; number `broken` cannot be read.
    #[derive(Debug)]
    struct Numbers {
        count: usize,
        broken: Option<usize>,
        made: AtomicUsize,
    }

    impl Numbers {
        fn new(count: usize, broken: Option<usize>) -> Arc<Numbers> {
            Arc::new(Numbers { count, broken, made: AtomicUsize::new(0) })
        }
    }

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.count
        }

        fn example(&self) -> ExampleType {
            let ty = || vec![Type::new(DType::F64, [])];
            ExampleType { inputs: ty(), targets: ty(), classes: None }
        }

        fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            if examples.iter().any(|&example| Some(example) == self.broken) {
                return Err(DataError::Setting("broken".into()));
            }
            let drawn = |&example: &usize| {
                draw.map_or(0.0, |draw| Random::of(&[draw.seed, draw.epoch, example as u64]).uniform())
            };
            let numbers: Vec<f64> = examples.iter().map(|&example| example as f64).collect();
            let random: Vec<f64> = examples.iter().map(drawn).collect();
            let n = [examples.len()];
            Ok(Batch::new(Tensor::from_vec(numbers, n), Tensor::from_vec(random, n)))
        }
    }

    fn all(batches: Batches) -> Vec<(Vec<f64>, Vec<f64>)> {
        batches.map(|batch| batch.map(|b| (b.input().to_vec(), b.target().to_vec())).unwrap()).collect()
    }

    #[test]
    fn a_thread_and_any_start_give_the_same_bits() {
        let set = Numbers::new(23, None);
        for drop_last in [false, true] {
            let loader = Loader::new(set.clone(), 4, 11).drop_last(drop_last).prefetch(0);
            for epoch in [0, 5] {
                let whole = all(loader.epoch(epoch, 0));
                assert_eq!(whole.len(), loader.steps_per_epoch());
                for prefetch in [0, 1, 3, 100] {
                    for step in 0..=whole.len() + 1 {
                        let rest = all(loader.clone().prefetch(prefetch).epoch(epoch, step));
                        assert_eq!(rest, whole[step.min(whole.len())..], "prefetch {prefetch}, step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_epoch_has_every_example_once_in_an_order_of_its_own() {
        let loader = Loader::new(Numbers::new(50, None), 8, 3);
        let order = |epoch| all(loader.epoch(epoch, 0)).into_iter().flat_map(|(n, _)| n).collect::<Vec<_>>();
        let (first, second) = (order(0), order(1));
        assert_ne!(first, second);
        assert_ne!(
            first,
            Loader::new(Numbers::new(50, None), 8, 4).epoch(0, 0).next().unwrap().unwrap().input().to_vec::<f64>()
        );
        for mut order in [first, second] {
            order.sort_by(f64::total_cmp);
            assert_eq!(order, (0..50).map(f64::from).collect::<Vec<_>>());
        }
        let test = all(loader.shuffle(false).epoch(1, 0));
        assert_eq!(test[1], ((8..16).map(f64::from).collect(), vec![0.0; 8]));
    }

    #[test]
    fn an_error_comes_through_and_ends_the_epoch() {
        for prefetch in [0, 2] {
            let loader = Loader::new(Numbers::new(40, Some(9)), 4, 0).shuffle(false).prefetch(prefetch);
            let got: Vec<_> = loader.epoch(0, 0).map(|batch| batch.is_ok()).collect();
            assert_eq!(got, [true, true, false], "prefetch {prefetch}");
        }
    }

    #[test]
    fn dropping_it_ends_the_thread_and_the_queue_is_bounded() {
        let set = Numbers::new(10_000, None);
        let mut batches = Loader::new(set.clone(), 1, 0).prefetch(3).epoch(0, 0);
        batches.next().unwrap().unwrap();
        drop(batches);
        // One taken, three waiting, one in the hand of the thread, one more if it was quick after the first was taken.
        let made = set.made.load(Ordering::SeqCst);
        assert!(made <= 6, "{made} batches were made");
        assert_eq!(Arc::strong_count(&set), 1, "the thread still holds the set");
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_panic_in_the_thread_goes_on_in_the_caller() {
        #[derive(Debug)]
        struct Liar;
        impl Dataset for Liar {
            fn len(&self) -> usize {
                8
            }
            fn example(&self) -> ExampleType {
                ExampleType { inputs: vec![], targets: vec![], classes: None }
            }
            fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<Batch, DataError> {
                let few = [0.0f32; 3];
                Ok(Batch { inputs: vec![Tensor::from_vec([few[examples[1]]], [1])], targets: vec![] })
            }
        }
        Loader::new(Arc::new(Liar), 2, 0).shuffle(false).epoch(0, 0).for_each(drop);
    }
}
