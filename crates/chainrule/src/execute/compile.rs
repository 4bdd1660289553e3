//! `compile`: a function becomes one program for each form of its arguments, and runs without being traced again.

use super::lists::Lists;
use super::machine::{self, ExecuteError, Scratch};
use super::profile::Profile;
use crate::optimize;
use crate::plan::{Budgeted, Plan, PlanOptions, Timeline, within_budget};
use crate::program::{Program, capture};
use crate::tensor::{Storage, Tensor, Type, placeholders};
use crate::tree::{self, Path, Segment, Tree};
use chainrule_kernels::buffer::Buffer;
use chainrule_kernels::pool::Pool;
use std::sync::Arc;
use std::time::Instant;

/// A function that runs as a program; made by [`compile`].
pub struct Compiled<A, B, F> {
    function: F,
    pool: Arc<Pool>,
    versions: Vec<Version<B>>,
    budget: Option<usize>,
    marker: std::marker::PhantomData<fn(A) -> B>,
}

/// The program for one form of the arguments.
struct Version<B> {
    form: Vec<(Vec<Segment>, Type)>,
    template: B,
    program: Program,
    plan: Plan,
    scratch: Scratch,
    /// Whether it has run.
    warm: bool,
    lists: Lists,
    /// The leaves of the arguments, and the results, of a run.
    arguments: Vec<Option<Tensor>>,
    results: Vec<Tensor>,
    /// For each result: the argument whose memory it takes, or the small one that was given out last.
    given: Vec<Option<usize>>,
    last: Vec<Option<Tensor>>,
}

/// Bytes up to which a result is kept, to be written again when nobody holds it any more.
const KEPT: usize = 1 << 16;

/// Makes a function run as one program: traced at its first call, and again only for arguments of other shapes.
///
/// Arguments that nobody else holds and that a result can take the place of are updated in place: pass state by
/// value and take it back.
///
/// ```
/// use chainrule::prelude::*;
/// let mut step = compile(|(w, x): &(Tensor, Tensor)| {
///     let (loss, g) = value_and_grad(|w: &Tensor| (w * x - 1.0).square().sum(..), w);
///     (w - g * 0.1, loss)
/// });
/// let (mut w, x) = (Tensor::from([0.0f32, 0.0]), Tensor::from([1.0f32, 2.0]));
/// let mut loss = Tensor::from(0.0);
/// for _ in 0..50 {
///     (w, loss) = step.run((w, x.clone())).unwrap();
/// }
/// assert!(loss.item::<f32>() < 1e-5);
/// ```
pub fn compile<A: Tree, B: Tree, F: Fn(&A) -> B>(function: F) -> Compiled<A, B, F> {
    Compiled { function, pool: super::pool(None), versions: Vec::new(), budget: None, marker: std::marker::PhantomData }
}

impl<A: Tree, B: Tree, F: Fn(&A) -> B> Compiled<A, B, F> {
    /// Runs kernels on this many threads. Results do not depend on it, bit for bit.
    pub fn threads(mut self, threads: usize) -> Self {
        self.pool = super::pool(Some(threads));
        self
    }

    /// Keeps [`Plan::peak_bytes`], which is arguments, results and the arena together, within so many bytes, for all forms
    /// of arguments from here on: what would exceed it is not saved for the backward pass but computed again there, what is
    /// cheapest first. Results stay the same, bit for bit. A budget that cannot be met is an error of the first run, which
    /// names the least that can.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let f = |x: &Tensor| (0..30).fold(x.clone(), |x, _| (x.matmul(&x) * 0.01).tanh()).sum(..);
    /// let x = Tensor::ones([64, 64], DType::F32);
    /// let mut all = compile(|x: &Tensor| grad(f, x));
    /// let whole = all.plan(&x).peak_bytes();
    /// let mut less = compile(|x: &Tensor| grad(f, x)).memory_budget(whole / 3);
    /// assert!(less.plan(&x).peak_bytes() <= whole / 3);
    /// assert_eq!(less.run(x.clone()).unwrap().to_vec::<f32>(), all.run(x.clone()).unwrap().to_vec::<f32>());
    /// let refused = compile(|x: &Tensor| grad(f, x)).memory_budget(1 << 10).run(x).unwrap_err();
    /// assert!(refused.to_string().contains("cannot be met"));
    /// ```
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.budget = Some(bytes);
        self.versions.clear();
        self
    }

    /// Runs the program on arguments.
    ///
    /// # Errors
    /// If a value does not fit: an index outside its axis; or the memory budget cannot be met.
    ///
    /// # Panics
    /// At the first call for a form of arguments, wherever the function itself panics while it is traced.
    #[track_caller]
    pub fn run(&mut self, arguments: A) -> Result<B, ExecuteError> {
        let version = self.version(&arguments)?;
        let version = &mut self.versions[version];
        drop(arguments);
        version.run(&self.pool)?;
        let mut results = version.results.drain(..);
        Ok(version.template.map(&mut Path::default(), &mut |_, _| results.next().expect("a result a leaf")))
    }

    /// [`Compiled::run`], and adds to a profile where the time went. Timing costs a few hundredths of a microsecond a step.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    #[track_caller]
    pub fn run_profiled(&mut self, arguments: A, profile: &mut Profile) -> Result<B, ExecuteError> {
        let version = self.version(&arguments)?;
        let Version { plan, scratch, .. } = &mut self.versions[version];
        scratch.measure(plan, true);
        let start = Instant::now();
        let result = self.run(arguments);
        let total = start.elapsed();
        let Version { plan, scratch, .. } = &mut self.versions[version];
        profile.collect(plan, scratch, total);
        scratch.measure(plan, false);
        result
    }

    /// The program for arguments of this form, as it was optimised.
    ///
    /// # Panics
    /// If the memory budget cannot be met.
    #[track_caller]
    pub fn program(&mut self, arguments: &A) -> &Program {
        &self.known(arguments).program
    }

    /// The plan for arguments of this form.
    ///
    /// # Panics
    /// If the memory budget cannot be met.
    #[track_caller]
    pub fn plan(&mut self, arguments: &A) -> &Plan {
        &self.known(arguments).plan
    }

    /// What memory holds along the steps for arguments of this form, before anything runs. `layer_of` says of an
    /// argument's path which layer it is a parameter of.
    ///
    /// # Errors
    /// If the memory budget cannot be met.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::ones([100], DType::F32);
    /// let memory = compile(|x: &Tensor| grad(|x: &Tensor| x.exp().sin().sum(..), x)).memory(&x, &|_| None).unwrap();
    /// assert_eq!(memory.arguments[0].1, 400);
    /// assert!(memory.peak >= memory.arena + 400); // the gradient takes the place of x
    /// ```
    #[track_caller]
    pub fn memory(
        &mut self,
        arguments: &A,
        layer_of: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Timeline, ExecuteError> {
        let version = self.version(arguments)?;
        let Version { program, plan, .. } = &self.versions[version];
        Ok(Timeline::of(program, plan, layer_of))
    }

    /// Bytes that the arena for arguments of this form really has, loops included: those of [`Plan::arena_bytes`], not
    /// stated but counted.
    ///
    /// # Panics
    /// If the memory budget cannot be met.
    #[track_caller]
    pub fn held_bytes(&mut self, arguments: &A) -> usize {
        self.known(arguments).scratch.bytes()
    }

    #[track_caller]
    fn known(&mut self, arguments: &A) -> &Version<B> {
        match self.version(arguments) {
            Ok(version) => &self.versions[version],
            Err(error) => panic!("compile: {error}"),
        }
    }

    /// The number of the program for arguments of this form, made if need be; it has their leaves.
    #[track_caller]
    fn version(&mut self, arguments: &A) -> Result<usize, ExecuteError> {
        if let Some(number) = self.versions.iter_mut().position(|version| version.fits(arguments)) {
            return Ok(number);
        }
        let named = tree::named_leaves(arguments);
        let placeholders = placeholders(named.iter().map(|leaf| leaf.2.ty()));
        let result = (self.function)(&tree::rebuild(arguments, &placeholders));
        let inputs: Vec<(String, Tensor)> = named.iter().map(|leaf| leaf.0.clone()).zip(placeholders).collect();
        let program = match capture("compiled", &inputs, &tree::leaves(&result)) {
            Ok(program) => optimize::optimize(program),
            Err(error) => panic!("compile: {error}"),
        };
        let options = PlanOptions::with_state();
        let Budgeted { program, plan } = match self.budget {
            Some(budget) => within_budget(program, options, budget).map_err(ExecuteError::MemoryBudget)?,
            None => Budgeted { plan: Plan::new(&program, options), program },
        };
        let mut form = Vec::with_capacity(named.len());
        arguments
            .visit(&mut Path::default(), &mut |path, leaf| form.push((path.segments().to_vec(), leaf.ty().clone())));
        // The template keeps the form of the result, not the expression behind it.
        let template = tree::map(&result, |leaf| Tensor::zeros(leaf.shape(), leaf.dtype()));
        let mut given = vec![None; plan.results.len()];
        plan.donated.iter().for_each(|&(argument, result)| given[result] = Some(argument));
        self.versions.push(Version {
            form,
            template,
            scratch: Scratch::new(&plan),
            warm: false,
            lists: Lists::default(),
            arguments: named.into_iter().map(|leaf| Some(leaf.2)).collect(),
            results: Vec::with_capacity(given.len()),
            last: vec![None; given.len()],
            given,
            program,
            plan,
        });
        Ok(self.versions.len() - 1)
    }
}

impl<B> Version<B> {
    /// Whether arguments have the form this program was made for; keeps their leaves if so. Nothing is written out: this
    /// is done at every run.
    fn fits(&mut self, arguments: &impl Tree) -> bool {
        let (form, leaves) = (&self.form, &mut self.arguments);
        leaves.clear();
        let mut same = true;
        arguments.visit(&mut Path::default(), &mut |path, leaf| {
            same = same
                && (form.get(leaves.len()))
                    .is_some_and(|(segments, ty)| segments == path.segments() && ty == leaf.ty());
            if same {
                leaves.push(Some(leaf.clone()));
            }
        });
        let fits = same && leaves.len() == form.len();
        if !fits {
            leaves.clear();
        }
        fits
    }

    /// Runs the program on the leaves of the arguments; the results are then in `results`.
    ///
    /// A result is written where its argument was, or where the last one was that nobody holds any more.
    fn run(&mut self, pool: &Pool) -> Result<(), ExecuteError> {
        if self.arguments.iter().flatten().any(|leaf| leaf.storage().is_none()) {
            let leaves: Vec<Tensor> = self.arguments.drain(..).flatten().collect();
            self.arguments.extend(super::eval_all(&leaves).into_iter().map(Some));
        }
        self.results.clear();
        for (result, ty) in self.plan.results.iter().enumerate() {
            let fresh = || Tensor::from_storage(Storage::new(Buffer::zeroed(ty.bytes()), ty.clone()));
            self.results.push(match self.given[result] {
                Some(argument) => {
                    let leaf = self.arguments[argument].take().expect("given once");
                    leaf.renewed().unwrap_or_else(|shared| {
                        let storage = shared.storage().expect("a value");
                        Tensor::from_storage(Storage::new(Buffer::from_slice(storage.bytes()), ty.clone()))
                    })
                }
                None => self.last[result].take().and_then(|last| last.renewed().ok()).unwrap_or_else(fresh),
            });
        }
        let mut arguments = self.lists.inputs.empty();
        arguments.extend(self.arguments.iter().map(|leaf| match leaf {
            Some(leaf) => leaf.storage().expect("a value").bytes(),
            None => &[],
        }));
        let mut results = self.lists.outputs.empty();
        results.extend(self.results.iter_mut().map(|result| result.bytes_mut().expect("nobody else holds it")));
        machine::run_on(pool, &self.plan, &arguments, &mut results, &mut self.scratch)?;
        self.lists.inputs.keep(arguments);
        self.lists.outputs.keep(results);
        self.arguments.clear();
        for ((last, result), given) in self.last.iter_mut().zip(&self.results).zip(&self.given) {
            if given.is_none() && result.ty().bytes() <= KEPT {
                *last = Some(result.clone());
            }
        }
        if !std::mem::replace(&mut self.warm, true) {
            pool.level();
        }
        Ok(())
    }
}
