//! Dimensions as people write them.

use std::cmp::Ordering;
use std::fmt;

use super::{Atom, Dim, Expr};

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(value) => write!(f, "{value}"),
            Self::Expr(expr) => write!(f, "{expr}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Constant terms read best at the end: `N + 1`.
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by_key(|(monomial, _)| monomial.is_empty());
        for (index, (monomial, coefficient)) in terms.into_iter().enumerate() {
            match (index, coefficient.cmp(&0)) {
                (0, Ordering::Less) => f.write_str("-")?,
                (0, _) => {}
                (_, Ordering::Less) => f.write_str(" - ")?,
                _ => f.write_str(" + ")?,
            }
            let size = coefficient.unsigned_abs();
            if monomial.is_empty() {
                write!(f, "{size}")?;
                continue;
            }
            if size != 1 {
                write!(f, "{size}*")?;
            }
            for (position, atom) in monomial.iter().enumerate() {
                if position > 0 {
                    f.write_str("*")?;
                }
                match atom {
                    Atom::Symbol(name) => write!(f, "{name}")?,
                    Atom::FloorDiv(a, b) => write!(f, "floor(({a})/({b}))")?,
                    Atom::Max(a, b) => write!(f, "max({a}, {b})")?,
                    Atom::Min(a, b) => write!(f, "min({a}, {b})")?,
                }
            }
        }
        if self.terms.is_empty() {
            f.write_str("0")
        } else {
            Ok(())
        }
    }
}
