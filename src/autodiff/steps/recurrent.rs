//! LSTM, GRU and RNN unrolled over a sequence of known length.
//!
//! The products with the input are one product for all steps; only those with the state are made step by step. In a reverse
//! direction the steps run from the end. With sequence lengths, a step beyond a sequence's end leaves its state alone, which
//! is also what makes the reverse direction start at each sequence's own end.

use super::super::emit::{Fault, Var};
use super::super::vjp::{Call, Grads};
use super::gates::{Activation, activations};
use crate::ir::DType;

/// What one direction of a layer reads.
struct Direction<'e> {
    /// Products of each step's input with the input weights, biases included: `[N, gates·H]`, in file order.
    steps: Vec<Var<'e>>,
    /// Recurrent weights, transposed: `[H, gates·H]`.
    recurrent: Var<'e>,
    /// Recurrent biases `[gates·H]`, where the layer keeps them apart.
    recurrent_bias: Option<Var<'e>>,
    /// Peephole weights `[3·H]`.
    peepholes: Option<Var<'e>>,
    hidden: Option<Var<'e>>,
    cell: Option<Var<'e>>,
    functions: Vec<Activation>,
    clip: Option<f64>,
    size: i64,
    backward: bool,
}

/// The state of a layer: hidden and, for LSTM, cell. `None` is zero.
type State<'e> = (Option<Var<'e>>, Option<Var<'e>>);

/// One step: from a step's input product and the state to the next state.
type Step<'e> = fn(&Call<'e>, &Direction<'e>, &Var<'e>, &State<'e>) -> (Var<'e>, Option<Var<'e>>);

pub(in crate::autodiff) fn lstm<'e>(c: &Call<'e>) -> Grads<'e> {
    layer(c, 4, &["Sigmoid", "Tanh", "Tanh"], lstm_step)
}

pub(in crate::autodiff) fn gru<'e>(c: &Call<'e>) -> Grads<'e> {
    layer(c, 3, &["Sigmoid", "Tanh"], gru_step)
}

pub(in crate::autodiff) fn rnn<'e>(c: &Call<'e>) -> Grads<'e> {
    layer(c, 1, &["Tanh"], rnn_step)
}

fn layer<'e>(c: &Call<'e>, gates: i64, defaults: &[&str], step: Step<'e>) -> Grads<'e> {
    let batch_first = c.int("layout", 0) != 0;
    let x = if batch_first {
        c.input(0).swap(0, 1)
    } else {
        c.input(0)
    };
    if x.rank() != 3 || c.input(2).rank() != 3 {
        return c.refuse("its input or weights do not have three axes");
    }
    let length = match x.dim(0).fixed() {
        Some(length) if length > 0 => length,
        _ => {
            c.e.fault(Fault::Symbolic("the length of its sequence".to_owned()));
            return Vec::new();
        }
    };
    let size = c.input(2).fixed(2);
    let direction = c.operator.string("direction").unwrap_or("forward").to_owned();
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let Some(functions) = activations(c, directions, defaults) else {
        return c.refuse("its activation functions are not known");
    };
    let inside = mask(c, length);
    let shared = Layer {
        x,
        gates,
        size,
        length,
        directions,
        batch_first,
    };
    let (mut sequences, mut hidden, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..directions {
        let functions = functions
            .iter()
            .skip(index * defaults.len())
            .take(defaults.len())
            .cloned()
            .collect();
        let backward = direction == "reverse" || index == 1;
        let way = read(c, &shared, index, functions, backward);
        let (sequence, state) = run(c, &way, length, &inside, step);
        sequences.push(sequence);
        hidden.push(state.0);
        cells.push(state.1);
    }
    // [T, D, N, H], or [N, T, D, H] batch first.
    let y = c.e.concat(&sequences, 1).map(|y| {
        if batch_first {
            y.transpose(&[2, 0, 1, 3])
        } else {
            y
        }
    });
    let last = |states: Vec<Option<Var<'e>>>| {
        let states: Option<Vec<Var<'e>>> = states
            .into_iter()
            .map(|state| Some(state?.unsqueeze(&[0])))
            .collect();
        let stacked = c.e.concat(&states?, 0)?;
        Some(if batch_first { stacked.swap(0, 1) } else { stacked })
    };
    vec![y, last(hidden), last(cells)]
}

/// For each step which sequences have not ended, `[N, 1]` booleans; empty when all have the full length.
fn mask<'e>(c: &Call<'e>, length: i64) -> Vec<Var<'e>> {
    let Some(lengths) = c.optional(4) else {
        return Vec::new();
    };
    let full = c.e.tensor(lengths.id).and_then(|tensor| tensor.to_i64().ok());
    if full.is_some_and(|all| all.iter().all(|one| *one == length)) {
        return Vec::new();
    }
    let lengths = lengths.cast(DType::I64).unsqueeze(&[1]);
    (0..length).map(|step| c.e.ints(&[step]).less(&lengths)).collect()
}

/// What all directions of a layer share.
struct Layer<'e> {
    /// `[T, N, inputs]`
    x: Var<'e>,
    gates: i64,
    size: i64,
    length: i64,
    directions: usize,
    batch_first: bool,
}

/// The weights of direction `index`, and the products of every step's input with them.
fn read<'e>(
    c: &Call<'e>,
    layer: &Layer<'e>,
    index: usize,
    functions: Vec<Activation>,
    backward: bool,
) -> Direction<'e> {
    let Layer {
        x,
        gates,
        size,
        length,
        directions,
        batch_first,
    } = layer;
    let (gates, size, length, directions, batch_first) = (*gates, *size, *length, *directions, *batch_first);
    let pick = |var: Var<'e>, axis: usize| {
        let at = index as i64;
        let part = if directions == 1 {
            var
        } else {
            var.slice(axis, at, at + 1, 1)
        };
        part.squeeze(&[axis])
    };
    let initial = |slot: usize| {
        let state = c.optional(slot)?.clone();
        Some(pick(state, if batch_first { 1 } else { 0 }))
    };
    let recurrent = pick(c.input(2), 0).transposed();
    let mut product = x.matmul(&pick(c.input(1), 0).transposed());
    let mut recurrent_bias = None;
    if let Some(bias) = c.optional(3) {
        let halves = pick(bias.clone(), 0).split(0, &[gates * size, gates * size]);
        if let [input, state] = halves.as_slice() {
            // A GRU may multiply the reset gate with the recurrent product, bias included.
            if gates == 3 && c.int("linear_before_reset", 0) != 0 {
                product = product + input;
                recurrent_bias = Some(state.clone());
            } else {
                product = product + (input + state);
            }
        }
    }
    let steps = product
        .split(0, &vec![1; length as usize])
        .iter()
        .map(|step| step.squeeze(&[0]))
        .collect();
    let (cell, peepholes) = match gates {
        4 => (initial(6), c.optional(7).map(|weights| pick(weights.clone(), 0))),
        _ => (None, None),
    };
    let clip = c.operator.float("clip").map(f64::from);
    Direction {
        steps,
        recurrent,
        recurrent_bias,
        peepholes,
        hidden: initial(5),
        cell,
        functions,
        clip,
        size,
        backward,
    }
}

/// Runs one direction: all hidden states as `[T, 1, N, H]`, and the last state.
fn run<'e>(
    c: &Call<'e>,
    way: &Direction<'e>,
    length: i64,
    inside: &[Var<'e>],
    step: Step<'e>,
) -> (Var<'e>, State<'e>) {
    let mut state: State<'e> = (way.hidden.clone(), way.cell.clone());
    let mut sequence: Vec<Var<'e>> = Vec::new();
    let order: Vec<usize> = if way.backward {
        (0..length as usize).rev().collect()
    } else {
        (0..length as usize).collect()
    };
    for at in order {
        let Some(input) = way.steps.get(at) else { continue };
        let (mut hidden, mut cell) = step(c, way, input, &state);
        let mut shown = hidden.clone();
        if let Some(inside) = inside.get(at) {
            let zero = hidden.number(0.0);
            shown = inside.choose(&hidden, &zero);
            let held =
                |new: &Var<'e>, old: &Option<Var<'e>>| inside.choose(new, old.as_ref().unwrap_or(&zero));
            hidden = held(&hidden, &state.0);
            cell = cell.map(|cell| held(&cell, &state.1));
        }
        sequence.push(shown.unsqueeze(&[0, 1]));
        state = (Some(hidden), cell);
    }
    if way.backward {
        sequence.reverse();
    }
    let sequence = c.e.concat(&sequence, 0).unwrap_or_else(|| c.input(0));
    (sequence, state)
}

impl<'e> Direction<'e> {
    /// The recurrent product with a state; nothing where the state is zero.
    fn product(&self, hidden: &Option<Var<'e>>) -> Option<Var<'e>> {
        hidden.as_ref().map(|hidden| hidden.matmul(&self.recurrent))
    }

    fn clipped(&self, x: Var<'e>) -> Var<'e> {
        match self.clip {
            Some(bound) => x.max(&x.number(-bound)).min(&x.number(bound)),
            None => x,
        }
    }

    fn activate(&self, function: usize, x: Var<'e>) -> Var<'e> {
        let x = self.clipped(x);
        match self.functions.get(function) {
            Some(function) => function.apply(&x),
            None => x,
        }
    }

    /// Parts of `count` gates along the last axis, each of the hidden size.
    fn gates(&self, x: &Var<'e>, count: usize) -> Vec<Var<'e>> {
        x.split(x.rank().saturating_sub(1), &vec![self.size; count])
    }
}

fn plus<'e>(a: Var<'e>, b: Option<Var<'e>>) -> Var<'e> {
    match b {
        Some(b) => a + b,
        None => a,
    }
}

/// Gates in the order input, output, forget, cell.
fn lstm_step<'e>(
    c: &Call<'e>,
    way: &Direction<'e>,
    input: &Var<'e>,
    state: &State<'e>,
) -> (Var<'e>, Option<Var<'e>>) {
    let gates = way.gates(&plus(input.clone(), way.product(&state.0)), 4);
    let [i, o, f, g] = gates.as_slice() else {
        return (input.clone(), None);
    };
    let peepholes = way
        .peepholes
        .as_ref()
        .map(|weights| way.gates(weights, 3))
        .unwrap_or_default();
    let look = |index: usize, cell: Option<&Var<'e>>| Some(peepholes.get(index)? * cell?);
    let before = state.1.as_ref();
    let i = way.activate(0, plus(i.clone(), look(0, before)));
    let f = match c.int("input_forget", 0) {
        0 => way.activate(0, plus(f.clone(), look(2, before))),
        _ => 1.0 - &i,
    };
    let new = &i * way.activate(1, g.clone());
    let cell = plus(new, before.map(|cell| f * cell));
    let o = way.activate(0, plus(o.clone(), look(1, Some(&cell))));
    // The cell is not clipped: only what goes into a gate is.
    let shown = match way.functions.get(2) {
        Some(function) => function.apply(&cell),
        None => cell.clone(),
    };
    (o * shown, Some(cell))
}

/// Gates in the order update, reset, hidden.
fn gru_step<'e>(
    c: &Call<'e>,
    way: &Direction<'e>,
    input: &Var<'e>,
    state: &State<'e>,
) -> (Var<'e>, Option<Var<'e>>) {
    let size = way.size;
    let gates = way.gates(input, 3);
    let [xz, xr, xh] = gates.as_slice() else {
        return (input.clone(), None);
    };
    let (z, new);
    if c.int("linear_before_reset", 0) != 0 {
        let product = match (way.product(&state.0), &way.recurrent_bias) {
            (Some(product), Some(bias)) => Some(product + bias),
            (product, bias) => product.or(bias.clone()),
        };
        let parts = product.map(|product| way.gates(&product, 3)).unwrap_or_default();
        let part = |index: usize| parts.get(index).cloned();
        z = way.activate(0, plus(xz.clone(), part(0)));
        let r = way.activate(0, plus(xr.clone(), part(1)));
        new = way.activate(1, plus(xh.clone(), part(2).map(|part| r * part)));
    } else {
        let weights = way.recurrent.split(1, &[2 * size, size]);
        let [gate_weights, hidden_weights] = weights.as_slice() else {
            return (input.clone(), None);
        };
        let parts = state
            .0
            .as_ref()
            .map(|hidden| way.gates(&hidden.matmul(gate_weights), 2))
            .unwrap_or_default();
        let part = |index: usize| parts.get(index).cloned();
        z = way.activate(0, plus(xz.clone(), part(0)));
        let r = way.activate(0, plus(xr.clone(), part(1)));
        let through = state.0.as_ref().map(|hidden| (r * hidden).matmul(hidden_weights));
        new = way.activate(1, plus(xh.clone(), through));
    }
    let kept = state.0.as_ref().map(|hidden| &z * hidden);
    (plus((1.0 - &z) * new, kept), None)
}

fn rnn_step<'e>(
    _: &Call<'e>,
    way: &Direction<'e>,
    input: &Var<'e>,
    state: &State<'e>,
) -> (Var<'e>, Option<Var<'e>>) {
    (way.activate(0, plus(input.clone(), way.product(&state.0))), None)
}
