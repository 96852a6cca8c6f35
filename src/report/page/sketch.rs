//! Graphs as pictures and as tables: each node a box, coloured by the rule or pass that made or removed it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::draw::text;
use super::graph::{Drawn, Fate, Graphs, Side};
use super::layers::{Placed, Shape, layers};
use crate::report::table::count;

/// Colours for rules and passes; what comes after shares the last.
const COLOURS: usize = 8;
/// Nodes that are drawn at most; of larger graphs, what differs and what is next to it.
const LARGEST: usize = 6000;
/// Groups of the overview at most.
const GROUPS: usize = 40;
/// Nodes from which on there is an overview.
const OVERVIEW: usize = 60;
/// What nodes without a scope before the first that has one belong to.
const NO_SCOPE: &str = "without a scope";
/// Differences that are listed outside of the table of all nodes.
const LISTED: usize = 200;

/// The section on the graphs.
pub(super) fn section(graphs: &Graphs) -> String {
    let colours = Colours::of(graphs);
    let mut body = String::new();
    let nodes = graphs
        .after
        .nodes
        .len()
        .max(graphs.before.as_ref().map_or(0, |side| side.nodes.len()));
    if graphs.differ() {
        body.push_str(&colours.legend());
        body.push_str(&changes(graphs));
    }
    if nodes > OVERVIEW {
        body.push_str(&overview(graphs));
    }
    body.push_str("<div class=\"tools\" hidden><button type=\"button\" id=\"next\">Next difference</button><button type=\"button\" id=\"previous\">Previous</button><button type=\"button\" id=\"in\">Larger</button><button type=\"button\" id=\"out\">Smaller</button><label>Find a node <input id=\"find\" type=\"search\"></label><span id=\"said\" role=\"status\"></span></div>\n<div id=\"panel\" hidden></div>\n<div class=\"panes\">\n");
    if let Some(before) = &graphs.before {
        body.push_str(&pane('b', "before", before, &colours));
    }
    body.push_str(&pane(
        'a',
        if graphs.before.is_some() {
            "after"
        } else {
            "the model"
        },
        &graphs.after,
        &colours,
    ));
    body.push_str("</div>\n");
    if let Some(before) = &graphs.before {
        body.push_str(&all('b', "before", before));
    }
    body.push_str(&all(
        'a',
        if graphs.before.is_some() {
            "after"
        } else {
            "the model"
        },
        &graphs.after,
    ));
    body
}

/// Which colour a rule or pass has.
struct Colours {
    classes: BTreeMap<String, usize>,
    counts: Vec<(String, usize)>,
}

impl Colours {
    /// The most frequent ones first.
    fn of(graphs: &Graphs) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let sides = graphs.before.iter().chain(std::iter::once(&graphs.after));
        for node in sides.flat_map(|side| &side.nodes) {
            if let Some(origin) = node.origins.last() {
                *counts.entry(origin).or_default() += 1;
            }
        }
        let mut counts: Vec<(String, usize)> = counts
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let classes = counts
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (name.clone(), at.min(COLOURS - 1)))
            .collect();
        Self { classes, counts }
    }

    fn class(&self, node: &Drawn) -> String {
        let origin = node.origins.last().and_then(|origin| self.classes.get(origin));
        match (&node.fate, origin) {
            (Fate::Same, _) => "n".to_owned(),
            (fate, Some(colour)) => format!("n {} p{colour}", fate.word()),
            (fate, None) => format!("n {} px", fate.word()),
        }
    }

    fn legend(&self) -> String {
        if self.counts.is_empty() {
            return String::new();
        }
        let entries: String = self
            .counts
            .iter()
            .enumerate()
            .map(|(at, (name, count))| {
                format!(
                    "<li><span class=\"key p{}\" aria-hidden=\"true\"></span>{} <span class=\"quiet\">{count}</span></li>",
                    at.min(COLOURS - 1),
                    text(name)
                )
            })
            .collect();
        format!(
            "<p>Colours say which rule or pass made or removed a node, with the number of its nodes:</p><ul class=\"legend\">{entries}</ul>\n"
        )
    }
}

/// What differs, each with a link into the drawings.
fn changes(graphs: &Graphs) -> String {
    let mut rows = String::new();
    let mut total = 0;
    let before = graphs
        .before
        .iter()
        .flat_map(|side| side.nodes.iter().enumerate());
    let gone = before
        .filter(|(_, node)| node.fate == Fate::Removed)
        .map(|(at, node)| ('b', at, node));
    let after = graphs.after.nodes.iter().enumerate();
    let here = after
        .filter(|(_, node)| node.fate != Fate::Same)
        .map(|(at, node)| ('a', at, node));
    for (side, at, node) in gone.chain(here) {
        total += 1;
        if total > LISTED {
            continue;
        }
        let what = match &node.fate {
            Fate::Changed(what) => what.clone(),
            _ if node.partners.is_empty() => String::new(),
            Fate::Removed => format!("stood for by {}", node.partners.join(", ")),
            _ => format!("stands for {}", node.partners.join(", ")),
        };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><th scope=\"row\"><a href=\"#{side}{at}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td></tr>",
            node.fate.word(),
            text(&node.label),
            text(&node.operator),
            text(&node.origins.join(", ")),
            text(&what)
        );
    }
    let rest = if total > LISTED {
        format!(
            "<p>The tables of all nodes below have the {} others.</p>",
            total - LISTED
        )
    } else {
        String::new()
    };
    format!(
        "<details open><summary>{total} nodes differ</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"nodes that differ\"><table><thead><tr><th scope=\"col\">fate</th><th scope=\"col\">node</th><th scope=\"col\">operator</th><th scope=\"col\">by</th><th scope=\"col\">what</th></tr></thead><tbody>\n{rows}</tbody></table></div>{rest}</details>\n"
    )
}

/// A drawing that scrolls.
fn pane(prefix: char, name: &str, side: &Side, colours: &Colours) -> String {
    let (shown, said) = shown(side);
    let largest = side
        .nodes
        .iter()
        .filter_map(|node| node.macs)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let place: BTreeMap<usize, usize> = shown.iter().enumerate().map(|(at, node)| (*node, at)).collect();
    let shapes: Vec<Shape> = shown
        .iter()
        .filter_map(|at| side.nodes.get(*at))
        .map(|node| Shape {
            width: 132.0,
            height: 32.0 + 26.0 * (node.macs.unwrap_or(0) as f64 / largest).sqrt(),
        })
        .collect();
    let edges: Vec<(usize, usize)> = side
        .edges
        .iter()
        .filter_map(|(from, to)| Some((*place.get(from)?, *place.get(to)?)))
        .collect();
    let placed = layers(&shapes, &edges);
    let mut body = format!("<path class=\"e\" d=\"{}\"/>", lines(&placed));
    for ((node, shape), corner) in shown.iter().zip(&shapes).zip(&placed.corners) {
        if let Some(drawn) = side.nodes.get(*node) {
            boxed(&mut body, prefix, *node, drawn, *shape, *corner, colours);
        }
    }
    let (width, height) = (placed.width + 16.0, placed.height + 16.0);
    format!(
        "<figure><figcaption>{name}: {} nodes{said}</figcaption><div class=\"graph\" tabindex=\"0\" role=\"region\" aria-label=\"graph {name}\"><svg data-w=\"{width:.0}\" data-h=\"{height:.0}\" viewBox=\"-8 -8 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"graph {name}; the table of all nodes says the same in words\">{body}</svg></div></figure>\n",
        count(side.nodes.len() as u64)
    )
}

/// Nodes that are drawn, and what is said of the others.
fn shown(side: &Side) -> (Vec<usize>, String) {
    let total = side.nodes.len();
    if total <= LARGEST {
        return ((0..total).collect(), String::new());
    }
    let mut near: Vec<bool> = side.nodes.iter().map(|node| node.fate != Fate::Same).collect();
    for _ in 0..2 {
        let next: Vec<usize> = side
            .edges
            .iter()
            .flat_map(|(from, to)| match (near.get(*from), near.get(*to)) {
                (Some(true), Some(false)) => Some(*to),
                (Some(false), Some(true)) => Some(*from),
                _ => None,
            })
            .collect();
        for node in next {
            if let Some(flag) = near.get_mut(node) {
                *flag = true;
            }
        }
    }
    let mut shown: Vec<usize> = (0..total).filter(|at| near.get(*at) == Some(&true)).collect();
    if shown.is_empty() {
        shown = (0..total).collect();
    }
    shown.truncate(LARGEST);
    let said = format!(
        ", {} of them drawn: what differs, and what is next to it",
        count(shown.len() as u64)
    );
    (shown, said)
}

fn lines(placed: &Placed) -> String {
    let mut path = String::new();
    for line in &placed.lines {
        let Some(((x, y), rest)) = line.split_first() else {
            continue;
        };
        let _ = write!(path, "M{x:.0} {y:.0}");
        let mut last = *y;
        for (x, y) in rest {
            let middle = (last + y) / 2.0;
            let _ = write!(path, "S{x:.0} {middle:.0} {x:.0} {y:.0}");
            last = *y;
        }
    }
    path
}

/// Characters that a box has room for.
const ROOM: usize = 18;

fn boxed(
    body: &mut String,
    prefix: char,
    index: usize,
    node: &Drawn,
    shape: Shape,
    (x, y): (f64, f64),
    colours: &Colours,
) {
    let sign = match node.fate {
        Fate::Same => "",
        Fate::Changed(_) => "~ ",
        Fate::Removed => "− ",
        Fate::Added => "+ ",
    };
    let error = node.error.map_or(String::new(), |error| {
        format!(
            "<text class=\"small end\" x=\"{:.0}\" y=\"26\">{error:.0} dB</text>",
            shape.width - 5.0
        )
    });
    let _ = write!(
        body,
        "<g class=\"{}\" id=\"{prefix}{index}\" transform=\"translate({x:.0} {y:.0})\"><rect width=\"{:.0}\" height=\"{:.0}\" rx=\"4\"/><text x=\"6\" y=\"13\">{sign}{}</text>{error}<text class=\"small\" x=\"6\" y=\"26\">{}</text></g>",
        colours.class(node),
        shape.width,
        shape.height,
        text(&node.operator),
        text(&shortened(
            &node.label,
            if node.error.is_some() { ROOM - 7 } else { ROOM }
        ))
    );
}

/// The end of a long name, which tells more than its beginning.
fn shortened(label: &str, room: usize) -> String {
    let length = label.chars().count();
    if length <= room {
        return label.to_owned();
    }
    let end: String = label.chars().skip(length + 1 - room).collect();
    format!("…{end}")
}

/// Every node of a graph in words.
fn all(prefix: char, name: &str, side: &Side) -> String {
    let mut rows = String::new();
    for (at, node) in side.nodes.iter().enumerate() {
        let what = match &node.fate {
            Fate::Changed(what) => what.as_str(),
            _ => "",
        };
        let _ = writeln!(
            rows,
            "<tr id=\"r{prefix}{at}\"><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&node.label),
            text(&node.operator),
            node.fate.word(),
            text(&node.ty),
            node.macs.map(count).unwrap_or_default(),
            node.error.map(|error| format!("{error:.1}")).unwrap_or_default(),
            text(&node.origins.join(", ")),
            text(what)
        );
    }
    let heads: String = [
        "node",
        "operator",
        "fate",
        "result",
        "MACs",
        "error in dB",
        "by",
        "what",
    ]
    .iter()
    .map(|head| format!("<th scope=\"col\">{head}</th>"))
    .collect();
    format!(
        "<details><summary>All {} nodes of the graph {name}</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"all nodes {name}\"><table><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div></details>\n",
        count(side.nodes.len() as u64)
    )
}

/// A part of a graph: nodes of one scope of names, or neighbours in the order in which they run.
struct Group {
    name: String,
    nodes: usize,
    differ: usize,
    macs: u64,
    first: usize,
}

/// The graph of the scopes of the result, few enough to be seen at once.
fn overview(graphs: &Graphs) -> String {
    let side = &graphs.after;
    let names = scopes(side);
    let mut groups: Vec<Group> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of_node = Vec::with_capacity(side.nodes.len());
    for (at, (node, name)) in side.nodes.iter().zip(&names).enumerate() {
        let place = *places.entry(name).or_insert_with(|| {
            groups.push(Group {
                name: name.clone(),
                nodes: 0,
                differ: 0,
                macs: 0,
                first: at,
            });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.nodes += 1;
            group.differ += usize::from(node.fate != Fate::Same);
            group.macs += node.macs.unwrap_or(0);
        }
        of_node.push(place);
    }
    let mut edges: Vec<(usize, usize)> = side
        .edges
        .iter()
        .filter_map(|(from, to)| Some((*of_node.get(*from)?, *of_node.get(*to)?)))
        .filter(|(from, to)| from != to)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let total = groups.iter().map(|group| group.macs).sum::<u64>().max(1) as f64;
    let shapes = vec![
        Shape {
            width: 190.0,
            height: 44.0
        };
        groups.len()
    ];
    let placed = layers(&shapes, &edges);
    let mut body = format!("<path class=\"e\" d=\"{}\"/>", lines(&placed));
    let mut rows = String::new();
    for (group, (x, y)) in groups.iter().zip(&placed.corners) {
        let share = group.macs as f64 / total;
        let differ = if graphs.before.is_some() {
            format!(", {} differ", group.differ)
        } else {
            String::new()
        };
        let _ = write!(
            body,
            "<a href=\"#a{}\"><g class=\"n{}\" transform=\"translate({x:.0} {y:.0})\"><rect width=\"190\" height=\"44\" rx=\"4\"/><rect class=\"cost\" y=\"40\" width=\"{:.0}\" height=\"4\"/><text x=\"6\" y=\"16\">{}</text><text class=\"small\" x=\"6\" y=\"32\">{} nodes{differ}, {:.0} % MACs</text></g></a>",
            group.first,
            if group.differ > 0 && graphs.before.is_some() {
                " changed px"
            } else {
                ""
            },
            190.0 * share,
            text(&shortened(&group.name, ROOM + 8)),
            group.nodes,
            100.0 * share
        );
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\"><a href=\"#a{}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td></tr>",
            group.first,
            text(&group.name),
            group.nodes,
            group.differ,
            count(group.macs)
        );
    }
    let (width, height) = (placed.width + 16.0, placed.height + 16.0);
    format!(
        "<details open><summary>Overview by {} parts</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"overview\"><svg viewBox=\"-8 -8 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"group\" aria-label=\"parts of the graph\">{body}</svg></div><details><summary>The same as a table</summary><table><thead><tr><th scope=\"col\">part</th><th scope=\"col\">nodes</th><th scope=\"col\">differ</th><th scope=\"col\">MACs</th></tr></thead><tbody>\n{rows}</tbody></table></details></details>\n",
        groups.len()
    )
}

/// The part of each node: the longest prefix of its name that leaves few parts, or its place in the order where names have no scopes.
fn scopes(side: &Side) -> Vec<String> {
    // Codes of a weight that become values belong to what reads them.
    let mut reader: BTreeMap<usize, usize> = BTreeMap::new();
    for (from, to) in &side.edges {
        reader.entry(*from).or_insert(*to);
    }
    for (_, to) in &side.edges {
        reader.remove(to);
    }
    reader.retain(|at, _| {
        side.nodes
            .get(*at)
            .is_some_and(|node| node.operator == "DequantizeLinear")
    });
    let others: Vec<&Drawn> = (0..side.nodes.len())
        .filter(|at| !reader.contains_key(at))
        .filter_map(|at| side.nodes.get(at))
        .collect();
    let mut own = own_scopes(&others).into_iter();
    let mut names: Vec<String> = (0..side.nodes.len())
        .map(|at| {
            if reader.contains_key(&at) {
                String::new()
            } else {
                own.next().unwrap_or_default()
            }
        })
        .collect();
    for (at, to) in reader {
        if let Some(name) = names.get(to).cloned()
            && let Some(own) = names.get_mut(at)
        {
            *own = name;
        }
    }
    names
}

fn own_scopes(nodes: &[&Drawn]) -> Vec<String> {
    let separators = ['/', '.', ':'];
    let prefix = |label: &str, depth: usize| -> String {
        let mut parts: Vec<&str> = label.split(separators).filter(|part| !part.is_empty()).collect();
        parts.pop();
        parts.truncate(depth);
        parts.join("/")
    };
    let scoped = nodes
        .iter()
        .filter(|node| !prefix(&node.label, 1).is_empty())
        .count();
    if scoped * 2 > nodes.len() {
        for depth in (1..=8).rev() {
            let mut last = String::new();
            let names: Vec<String> = nodes
                .iter()
                .map(|node| {
                    let own = prefix(&node.label, depth);
                    // What a pass put in has no scope: it belongs to what stands before it.
                    if !own.is_empty() {
                        last = own;
                    }
                    if last.is_empty() {
                        NO_SCOPE.to_owned()
                    } else {
                        last.clone()
                    }
                })
                .collect();
            let mut distinct: Vec<&String> = names.iter().collect();
            distinct.sort();
            distinct.dedup();
            if distinct.len() <= GROUPS && (distinct.len() > 1 || depth == 1) {
                return names;
            }
        }
    }
    let size = nodes.len().div_ceil(GROUPS).max(1);
    (0..nodes.len())
        .map(|at| {
            let first = at / size * size;
            let last = (first + size).min(nodes.len()) - 1;
            format!("nodes {} to {}", first + 1, last + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(label: &str) -> Drawn {
        Drawn {
            label: label.to_owned(),
            operator: "Relu".to_owned(),
            fate: Fate::Same,
            origins: Vec::new(),
            partners: Vec::new(),
            macs: None,
            ty: String::new(),
            error: None,
        }
    }

    #[test]
    fn parts_are_scopes_of_names_where_there_are_any() {
        let nodes: Vec<Drawn> = ["/a/b/x", "/a/b/y", "/a/c/x", "q", "/d/e/z"].map(node).into();
        assert_eq!(
            own_scopes(&nodes.iter().collect::<Vec<_>>()),
            ["a/b", "a/b", "a/c", "a/c", "d/e"]
        );
        let plain: Vec<Drawn> = (0..100).map(|at| node(&format!("n{at}"))).collect();
        let parts = own_scopes(&plain.iter().collect::<Vec<_>>());
        assert_eq!(parts.first().map(String::as_str), Some("nodes 1 to 3"));
        assert_eq!(parts.last().map(String::as_str), Some("nodes 100 to 100"));
        let mut nodes: Vec<Drawn> = ["w", "/a/b/x", "/a/c/y"].map(node).into();
        nodes[0].operator = "DequantizeLinear".to_owned();
        let edges = vec![(0, 2), (1, 2)];
        assert_eq!(scopes(&Side { nodes, edges }), ["a/c", "a/b", "a/c"]);
    }

    #[test]
    fn names_of_a_model_are_text() {
        let side = Side {
            nodes: vec![node("<script>alert(1)</script>")],
            edges: Vec::new(),
        };
        let graphs = Graphs {
            before: None,
            after: side,
        };
        let drawn = section(&graphs);
        assert!(!drawn.contains("<script"), "{drawn}");
        assert!(drawn.contains("&lt;script&gt;"), "{drawn}");
    }

    #[test]
    fn of_a_huge_graph_what_differs_is_drawn() {
        let mut nodes: Vec<Drawn> = (0..LARGEST + 10).map(|at| node(&format!("n{at}"))).collect();
        nodes[50].fate = Fate::Added;
        let edges = (1..nodes.len()).map(|at| (at - 1, at)).collect();
        let (drawn, said) = shown(&Side { nodes, edges });
        assert_eq!(drawn, [48, 49, 50, 51, 52]);
        assert!(said.contains("5 of them drawn"), "{said}");
    }
}
