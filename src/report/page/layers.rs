//! Layered drawings of directed graphs: nodes in rows, edges downwards, few crossings.
//!
//! The rows are longest paths; nodes that read nothing stand just above their first reader. Edges over several rows get places in the rows
//! between. Barycentres order the rows, and isotonic regression finds the positions nearest to the middle of what a node is joined with.

/// A node to be placed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Width.
    pub(super) width: f64,
    /// Height.
    pub(super) height: f64,
}

/// Where everything is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Placed {
    /// Upper left corners of nodes, in their order.
    pub(super) corners: Vec<(f64, f64)>,
    /// Points of edges, in their order, from the lower side of one node to the upper side of the other.
    pub(super) lines: Vec<Vec<(f64, f64)>>,
    /// Width of the whole.
    pub(super) width: f64,
    /// Height of the whole.
    pub(super) height: f64,
}

/// Rows that an edge may span with places of its own; a longer one is a curve beside the rows.
const SPAN: usize = 24;
/// Space between neighbours in a row.
const GAP: f64 = 18.0;
/// Space between rows.
const ROW_GAP: f64 = 26.0;
/// Width of the place of an edge that passes a row.
const LANE: f64 = 8.0;
/// Rounds of ordering.
const ORDERINGS: usize = 8;
/// Rounds of placing.
const PLACINGS: usize = 6;

/// Places nodes so that edges go down. An edge to an earlier node of `nodes` is drawn, and has no say in the rows.
pub(super) fn layers(nodes: &[Shape], edges: &[(usize, usize)]) -> Placed {
    let ranks = ranks(nodes.len(), edges);
    let mut rows = Rows::new(nodes, edges, &ranks);
    rows.order();
    rows.place();
    rows.finish(nodes, edges, &ranks)
}

/// The row of each node.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut readers = vec![Vec::new(); count];
    let mut reads = vec![false; count];
    for &(from, to) in edges.iter().filter(|(from, to)| from < to && *to < count) {
        if let Some(list) = readers.get_mut(from) {
            list.push(to);
        }
        if let Some(flag) = reads.get_mut(to) {
            *flag = true;
        }
    }
    let mut ranks = vec![0_usize; count];
    for from in 0..count {
        let next = ranks.get(from).copied().unwrap_or(0) + 1;
        for &to in readers.get(from).into_iter().flatten() {
            if let Some(rank) = ranks.get_mut(to) {
                *rank = next.max(*rank);
            }
        }
    }
    for from in (0..count).rev() {
        let first = readers.get(from).into_iter().flatten();
        let first = first.filter_map(|to| ranks.get(*to)).min().copied();
        if let (Some(first), Some(false)) = (first, reads.get(from))
            && let Some(rank) = ranks.get_mut(from)
        {
            *rank = first.saturating_sub(1);
        }
    }
    ranks
}

/// A place in a row: a node, or an edge that passes.
struct Place {
    width: f64,
    /// Middle.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

struct Rows {
    places: Vec<Place>,
    rows: Vec<Vec<usize>>,
    /// The places that each edge passes; `None` for one that is drawn beside the rows.
    passed: Vec<Option<Vec<usize>>>,
}

impl Rows {
    fn new(nodes: &[Shape], edges: &[(usize, usize)], ranks: &[usize]) -> Self {
        let place = |width| Place {
            width,
            x: 0.0,
            above: Vec::new(),
            below: Vec::new(),
        };
        let mut places: Vec<Place> = nodes.iter().map(|node| place(node.width)).collect();
        let count = ranks.iter().max().map_or(0, |last| last + 1);
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (node, rank) in ranks.iter().enumerate() {
            rows[*rank].push(node);
        }
        let mut passed = Vec::with_capacity(edges.len());
        for &(from, to) in edges {
            let (Some(&top), Some(&bottom)) = (ranks.get(from), ranks.get(to)) else {
                passed.push(None);
                continue;
            };
            if bottom <= top || bottom - top > SPAN {
                passed.push(None);
                continue;
            }
            let mut on_the_way = Vec::new();
            let mut last = from;
            for row in rows.iter_mut().take(bottom).skip(top + 1) {
                let lane = places.len();
                places.push(place(LANE));
                row.push(lane);
                join(&mut places, last, lane);
                on_the_way.push(lane);
                last = lane;
            }
            join(&mut places, last, to);
            passed.push(Some(on_the_way));
        }
        Self { places, rows, passed }
    }

    /// Orders each row by the middle of what its places are joined with, down and up in turn.
    fn order(&mut self) {
        let mut rank_in_row = vec![0.0; self.places.len()];
        for row in &self.rows {
            number(&mut rank_in_row, row);
        }
        for round in 0..ORDERINGS {
            let down = round % 2 == 0;
            let indices: Vec<usize> = if down {
                (0..self.rows.len()).collect()
            } else {
                (0..self.rows.len()).rev().collect()
            };
            for index in indices {
                let middle = |place: usize| {
                    let joined = if down {
                        &self.places[place].above
                    } else {
                        &self.places[place].below
                    };
                    mean(joined.iter().map(|other| rank_in_row[*other])).unwrap_or(rank_in_row[place])
                };
                let mut row: Vec<(f64, usize)> = self.rows[index]
                    .iter()
                    .map(|place| (middle(*place), *place))
                    .collect();
                row.sort_by(|a, b| a.0.total_cmp(&b.0));
                let row: Vec<usize> = row.into_iter().map(|(_, place)| place).collect();
                number(&mut rank_in_row, &row);
                self.rows[index] = row;
            }
        }
    }

    /// Finds the positions within the rows.
    fn place(&mut self) {
        for index in 0..self.rows.len() {
            let mut x = 0.0;
            for place in &self.rows[index] {
                let width = self.places[*place].width;
                self.places[*place].x = x + width / 2.0;
                x += width + GAP;
            }
        }
        for round in 0..PLACINGS {
            let down = round % 2 == 0;
            for step in 0..self.rows.len() {
                let index = if down { step } else { self.rows.len() - 1 - step };
                self.settle(index, down);
            }
        }
    }

    /// Moves the places of a row as near as their order allows to the middle of what they are joined with.
    fn settle(&mut self, index: usize, down: bool) {
        let row = &self.rows[index];
        let mut offset = 0.0;
        let mut offsets = Vec::with_capacity(row.len());
        let mut wanted = Vec::with_capacity(row.len());
        for (position, place) in row.iter().enumerate() {
            if position > 0 {
                let before = self.places[row[position - 1]].width;
                offset += before / 2.0 + GAP + self.places[*place].width / 2.0;
            }
            let own = &self.places[*place];
            let joined = if down { &own.above } else { &own.below };
            let target = mean(joined.iter().map(|other| self.places[*other].x)).unwrap_or(own.x);
            offsets.push(offset);
            wanted.push(target - offset);
        }
        let settled = isotonic(&wanted);
        let row = self.rows[index].clone();
        for ((place, x), offset) in row.into_iter().zip(settled).zip(offsets) {
            self.places[place].x = x + offset;
        }
    }

    fn finish(&self, nodes: &[Shape], edges: &[(usize, usize)], ranks: &[usize]) -> Placed {
        let mut tops = Vec::with_capacity(self.rows.len());
        let mut y = 0.0;
        for row in &self.rows {
            tops.push(y);
            let heights = row
                .iter()
                .filter_map(|place| nodes.get(*place))
                .map(|node| node.height);
            y += heights.fold(0.0, f64::max) + ROW_GAP;
        }
        let left = self.places.iter().map(|place| place.x - place.width / 2.0);
        let left = left.fold(f64::INFINITY, f64::min);
        let right = self.places.iter().map(|place| place.x + place.width / 2.0);
        let right = right.fold(f64::NEG_INFINITY, f64::max);
        let left = if left.is_finite() { left } else { 0.0 };
        let x = |place: usize| self.places[place].x - left;
        let corners: Vec<(f64, f64)> = nodes
            .iter()
            .enumerate()
            .map(|(node, shape)| (x(node) - shape.width / 2.0, tops[ranks[node]]))
            .collect();
        let mut rows_of_lanes = vec![0; self.places.len()];
        for (rank, row) in self.rows.iter().enumerate() {
            for place in row {
                rows_of_lanes[*place] = rank;
            }
        }
        let mut lines = Vec::with_capacity(edges.len());
        for (&(from, to), passed) in edges.iter().zip(&self.passed) {
            let (Some(upper), Some(lower)) = (nodes.get(from), nodes.get(to)) else {
                lines.push(Vec::new());
                continue;
            };
            let start = (
                corners[from].0 + upper.width / 2.0,
                corners[from].1 + upper.height,
            );
            let end = (corners[to].0 + lower.width / 2.0, corners[to].1);
            let mut line = vec![start];
            for lane in passed.iter().flatten() {
                line.push((x(*lane), tops[rows_of_lanes[*lane]] + ROW_GAP / 2.0));
            }
            line.push(end);
            lines.push(line);
        }
        Placed {
            corners,
            lines,
            width: if right.is_finite() { right - left } else { 0.0 },
            height: (y - ROW_GAP).max(0.0),
        }
    }
}

fn join(places: &mut [Place], upper: usize, lower: usize) {
    places[upper].below.push(lower);
    places[lower].above.push(upper);
}

fn number(ranks: &mut [f64], row: &[usize]) {
    for (position, place) in row.iter().enumerate() {
        ranks[*place] = position as f64;
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The non-decreasing sequence nearest to `wanted` in the sum of squares: neighbours in the wrong order share their mean.
fn isotonic(wanted: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &value in wanted {
        let mut block = (value, 1);
        while let Some(&(mean, count)) = blocks.last() {
            if mean <= block.0 {
                break;
            }
            let together = count + block.1;
            block = (
                (mean * count as f64 + block.0 * block.1 as f64) / together as f64,
                together,
            );
            blocks.pop();
        }
        blocks.push(block);
    }
    blocks
        .into_iter()
        .flat_map(|(mean, count)| std::iter::repeat_n(mean, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Shape = Shape {
        width: 100.0,
        height: 20.0,
    };

    fn overlap(placed: &Placed, nodes: &[Shape]) -> bool {
        let inside = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = (placed.corners[a], placed.corners[b]);
            ax < bx + nodes[b].width - 1e-6
                && bx < ax + nodes[a].width - 1e-6
                && ay < by + nodes[b].height - 1e-6
                && by < ay + nodes[a].height - 1e-6
        };
        (0..nodes.len()).any(|a| (0..a).any(|b| inside(a, b)))
    }

    #[test]
    fn edges_go_down_and_nothing_overlaps() {
        let nodes = vec![BOX; 7];
        let edges = [(0, 1), (1, 2), (1, 3), (2, 5), (3, 5), (0, 5), (4, 5), (5, 6)];
        let placed = layers(&nodes, &edges);
        for ((from, to), line) in edges.iter().zip(&placed.lines) {
            assert!(placed.corners[*from].1 < placed.corners[*to].1, "{from} {to}");
            assert!(line.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{line:?}");
        }
        assert!(!overlap(&placed, &nodes), "{:?}", placed.corners);
        // The node that reads nothing stands right above what reads it.
        assert_eq!(placed.corners[4].1, placed.corners[2].1);
    }

    #[test]
    fn a_chain_is_straight() {
        let edges: Vec<(usize, usize)> = (0..9).map(|node| (node, node + 1)).collect();
        let placed = layers(&[BOX; 10], &edges);
        assert!(placed.corners.iter().all(|corner| corner.0 == 0.0), "{placed:?}");
        assert_eq!(placed.width, 100.0);
    }

    #[test]
    fn an_edge_back_and_no_node_at_all_are_drawn() {
        let placed = layers(&[BOX; 2], &[(0, 1), (1, 0)]);
        assert_eq!(placed.lines.len(), 2);
        assert!(placed.lines.iter().all(|line| line.len() == 2));
        assert_eq!(layers(&[], &[]), Placed::default());
    }

    #[test]
    fn wrong_orders_share_their_mean() {
        assert_eq!(isotonic(&[3.0, 1.0, 2.0, 5.0]), [2.0, 2.0, 2.0, 5.0]);
    }
}
