//! Arithmetic on [`Var`]s, so that formulas read as they are printed.
//!
//! Operands broadcast as ONNX has it. A number takes the element type of the var beside it.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::emit::{Emitter, Fault, Var};
use crate::ir::{DType, Dim, Operator, Shape};

/// The shape of an elementwise result. Of two different symbols the left one stands: formulas only combine values that
/// broadcast by construction.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Shape {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape.get(axis).cloned().unwrap_or(Dim::Fixed(1)),
        None => Dim::Fixed(1),
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => other,
            (_, Dim::Fixed(size)) => Dim::Fixed(size),
            (left, _) => left,
        })
        .collect()
}

fn binary<'e>(operator: &str, a: &Var<'e>, b: &Var<'e>) -> Var<'e> {
    let shape = broadcast(&a.shape, &b.shape);
    a.e.one(Operator::new(operator), &[a, b], a.dtype, shape)
}

macro_rules! arithmetic {
    ($($op:ident, $method:ident;)*) => { $(
        impl<'e> $op<&Var<'e>> for &Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: &Var<'e>) -> Var<'e> {
                binary(stringify!($op), self, other)
            }
        }
        impl<'e> $op<Var<'e>> for &Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: Var<'e>) -> Var<'e> {
                binary(stringify!($op), self, &other)
            }
        }
        impl<'e> $op<&Var<'e>> for Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: &Var<'e>) -> Var<'e> {
                binary(stringify!($op), &self, other)
            }
        }
        impl<'e> $op<Var<'e>> for Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: Var<'e>) -> Var<'e> {
                binary(stringify!($op), &self, &other)
            }
        }
        impl<'e> $op<f64> for &Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: f64) -> Var<'e> {
                binary(stringify!($op), self, &self.number(other))
            }
        }
        impl<'e> $op<f64> for Var<'e> {
            type Output = Var<'e>;
            fn $method(self, other: f64) -> Var<'e> {
                binary(stringify!($op), &self, &self.number(other))
            }
        }
        impl<'e> $op<&Var<'e>> for f64 {
            type Output = Var<'e>;
            fn $method(self, other: &Var<'e>) -> Var<'e> {
                binary(stringify!($op), &other.number(self), other)
            }
        }
        impl<'e> $op<Var<'e>> for f64 {
            type Output = Var<'e>;
            fn $method(self, other: Var<'e>) -> Var<'e> {
                binary(stringify!($op), &other.number(self), &other)
            }
        }
    )* };
}
arithmetic! { Add, add; Sub, sub; Mul, mul; Div, div; }

impl<'e> Neg for &Var<'e> {
    type Output = Var<'e>;
    fn neg(self) -> Var<'e> {
        self.unary("Neg")
    }
}

impl<'e> Neg for Var<'e> {
    type Output = Var<'e>;
    fn neg(self) -> Var<'e> {
        self.unary("Neg")
    }
}

impl<'e> Var<'e> {
    /// A number of this var's element type.
    pub(super) fn number(&self, value: f64) -> Var<'e> {
        self.e.scalar(self.dtype, value)
    }

    /// An operator of one input that keeps type and shape.
    pub(super) fn unary(&self, operator: &str) -> Var<'e> {
        self.apply(Operator::new(operator))
    }

    /// An operator of one input, with attributes, that keeps type and shape.
    pub(super) fn apply(&self, operator: Operator) -> Var<'e> {
        self.e.one(operator, &[self], self.dtype, self.shape.clone())
    }

    pub(super) fn exp(&self) -> Var<'e> {
        self.unary("Exp")
    }

    pub(super) fn ln(&self) -> Var<'e> {
        self.unary("Log")
    }

    pub(super) fn sqrt(&self) -> Var<'e> {
        self.unary("Sqrt")
    }

    pub(super) fn tanh(&self) -> Var<'e> {
        self.unary("Tanh")
    }

    pub(super) fn abs(&self) -> Var<'e> {
        self.unary("Abs")
    }

    pub(super) fn sign(&self) -> Var<'e> {
        self.unary("Sign")
    }

    pub(super) fn square(&self) -> Var<'e> {
        self * self
    }

    /// 1 / (1 + e^-x), out of operators that every engine has in every float type.
    pub(super) fn sigmoid(&self) -> Var<'e> {
        if self.dtype == DType::F64 {
            ((self * 0.5).tanh() + 1.0) * 0.5
        } else {
            self.unary("Sigmoid")
        }
    }

    pub(super) fn pow(&self, exponent: &Var<'e>) -> Var<'e> {
        binary("Pow", self, exponent)
    }

    /// Elementwise minimum.
    pub(super) fn min(&self, other: &Var<'e>) -> Var<'e> {
        binary("Min", self, other)
    }

    /// Elementwise maximum.
    pub(super) fn max(&self, other: &Var<'e>) -> Var<'e> {
        binary("Max", self, other)
    }

    fn compare(&self, operator: &str, other: &Var<'e>) -> Var<'e> {
        let shape = broadcast(&self.shape, &other.shape);
        self.e
            .one(Operator::new(operator), &[self, other], DType::Bool, shape)
    }

    pub(super) fn not(&self) -> Var<'e> {
        self.unary("Not")
    }

    pub(super) fn and(&self, other: &Var<'e>) -> Var<'e> {
        self.compare("And", other)
    }

    /// self > other, as booleans.
    pub(super) fn greater(&self, other: &Var<'e>) -> Var<'e> {
        self.compare("Greater", other)
    }

    /// self < other, as booleans.
    pub(super) fn less(&self, other: &Var<'e>) -> Var<'e> {
        self.compare("Less", other)
    }

    /// self >= other, as booleans.
    pub(super) fn at_least(&self, other: &Var<'e>) -> Var<'e> {
        if self.e.opset >= 12 {
            self.compare("GreaterOrEqual", other)
        } else {
            self.less(other).not()
        }
    }

    /// self <= other, as booleans.
    pub(super) fn at_most(&self, other: &Var<'e>) -> Var<'e> {
        if self.e.opset >= 12 {
            self.compare("LessOrEqual", other)
        } else {
            self.greater(other).not()
        }
    }

    /// self = other, as booleans.
    pub(super) fn equal(&self, other: &Var<'e>) -> Var<'e> {
        if self.e.opset >= 11 || !self.dtype.is_float() {
            return self.compare("Equal", other);
        }
        let (less, greater) = (self.less(other), self.greater(other));
        less.compare("Or", &greater).not()
    }

    /// self > value, as 0 and 1 of this var's type.
    pub(super) fn above(&self, value: f64) -> Var<'e> {
        self.greater(&self.number(value)).cast(self.dtype)
    }

    /// self < value, as 0 and 1 of this var's type.
    pub(super) fn below(&self, value: f64) -> Var<'e> {
        self.less(&self.number(value)).cast(self.dtype)
    }

    /// Where this boolean holds, `yes`, else `no`.
    pub(super) fn choose(&self, yes: &Var<'e>, no: &Var<'e>) -> Var<'e> {
        let shape = broadcast(&broadcast(&self.shape, &yes.shape), &no.shape);
        self.e
            .one(Operator::new("Where"), &[self, yes, no], yes.dtype, shape)
    }

    /// The same elements in another type.
    pub(super) fn cast(&self, dtype: DType) -> Var<'e> {
        if dtype == self.dtype {
            return self.clone();
        }
        let operator = Operator::new("Cast").with("to", i64::from(dtype.onnx()));
        self.e.one(operator, &[self], dtype, self.shape.clone())
    }

    /// Matrix product over the last two axes; both operands have at least two, leading ones broadcast.
    pub(super) fn matmul(&self, other: &Var<'e>) -> Var<'e> {
        let (a, b) = (self.rank(), other.rank());
        if a < 2 || b < 2 {
            self.e
                .fault(Fault::Form("a matrix product of vectors".to_owned()));
            return self.clone();
        }
        let (lead_a, lead_b) = (self.shape.get(..a - 2), other.shape.get(..b - 2));
        let mut shape = broadcast(lead_a.unwrap_or_default(), lead_b.unwrap_or_default());
        shape.extend([self.dim(a - 2), other.dim(b - 1)]);
        self.e
            .one(Operator::new("MatMul"), &[self, other], self.dtype, shape)
    }
}

impl Emitter {
    /// The sum of one or more vars of one shape.
    pub(super) fn sum<'e>(&'e self, terms: &[Var<'e>]) -> Option<Var<'e>> {
        match terms {
            [] => None,
            [only] => Some(only.clone()),
            [a, b] => Some(a + b),
            [first, ..] => {
                let inputs: Vec<&Var<'e>> = terms.iter().collect();
                Some(self.one(Operator::new("Sum"), &inputs, first.dtype, first.shape.clone()))
            }
        }
    }
}
