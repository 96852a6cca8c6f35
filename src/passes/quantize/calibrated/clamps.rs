//! Clamps behind products on codes: which ones the codes imply, and where the others are computed.

use std::collections::{HashMap, HashSet};

use super::profile::{Pairs, Role, Traits};
use super::roles::{Roles, Wishes, readers};
use crate::ir::NodeId;

/// Clamps on integers, with the operators that they are one with.
pub(super) struct Clamps {
    /// The range of codes implies them.
    pub(super) implied: HashMap<NodeId, NodeId>,
    /// They stay, and the product before them computes them.
    pub(super) fused: HashMap<NodeId, NodeId>,
    /// They stay, and the engine computes them in float between two pairs.
    pub(super) floating: HashSet<NodeId>,
    /// They stay behind codes of their own: what they cut off needs none.
    pub(super) cutting: Vec<NodeId>,
    /// Those that stand alone and would only cost a pair.
    pub(super) useless: u64,
}

impl Clamps {
    /// Finds them, and takes out of `integer` what stands alone.
    pub(super) fn leave_out(
        roles: &Roles<'_>,
        integer: &mut HashSet<NodeId>,
        traits: &Traits,
        wishes: &Wishes<'_>,
    ) -> Self {
        let mut clamps = Self {
            implied: HashMap::new(),
            fused: HashMap::new(),
            floating: HashSet::new(),
            cutting: Vec::new(),
            useless: 0,
        };
        for id in &roles.order {
            if roles.of(*id) != Role::Clamp || !integer.contains(id) {
                continue;
            }
            match roles.clamp_source(*id).filter(|source| integer.contains(source)) {
                Some(source) => {
                    // Zero is in the middle of floats: they imply no clamp.
                    let kind = (wishes.named)(source).unwrap_or(wishes.activation);
                    let middle = wishes.symmetric || kind.is_float();
                    let apart = !(traits.implies_clamps && !middle || traits.fuses_clamps);
                    clamps.cutting.extend(apart.then_some(*id));
                    match (traits.implies_clamps && !middle, traits.fuses_clamps) {
                        (true, _) => {
                            clamps.implied.insert(*id, source);
                        }
                        (false, true) => {
                            clamps.fused.insert(*id, source);
                        }
                        (false, false) if traits.pairs == Pairs::Everywhere => {}
                        // Its result is read as codes, or the pair in front of it is all that the product needs.
                        (false, false)
                            if readers(roles.graph, *id)
                                .iter()
                                .any(|reader| integer.contains(reader)) =>
                        {
                            clamps.floating.insert(*id);
                        }
                        (false, false) => {
                            integer.remove(id);
                            clamps.useless += 1;
                        }
                    }
                }
                None if traits.pairs == Pairs::Everywhere => {}
                None => {
                    integer.remove(id);
                    clamps.useless += 1;
                }
            }
        }
        clamps
    }

    pub(super) fn follows(&self) -> HashMap<NodeId, NodeId> {
        let both = self.implied.iter().chain(&self.fused);
        both.map(|(clamp, source)| (*clamp, *source)).collect()
    }
}
