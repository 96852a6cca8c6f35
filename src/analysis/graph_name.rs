//! What graphs are called.

use crate::ir::{GraphPath, Model};

/// What places call a graph: `function domain.name`, or a body by its node and attribute, as in `loop/body`. `None` for the main graph.
pub fn graph_name(model: &Model, path: &GraphPath) -> Option<String> {
    let mut parts = Vec::new();
    let mut graph = match path.function {
        None => &model.graph,
        Some(index) => {
            let function = model.functions.get(index)?;
            let domain = function.header.domain.as_deref().unwrap_or("");
            let name = function.header.name.as_deref().unwrap_or("");
            parts.push(match domain {
                "" => format!("function {name}"),
                domain => format!("function {domain}.{name}"),
            });
            &function.graph
        }
    };
    for (node, body) in &path.bodies {
        let attribute = graph.operator(*node)?.attributes().get(body.attribute)?;
        parts.push(format!("{}/{}", graph.label(*node), attribute.name));
        graph = graph.body(*node, *body)?;
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
