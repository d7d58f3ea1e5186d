//! Graphs as GraphML (Brandes et al. 2002, "GraphML progress report", <http://graphml.graphdrawing.org>), which networkx,
//! Cytoscape, igraph and Gephi read.

use std::fmt::Display;
use std::io::{self, Write};

use super::edges::Sign;

/// A gene of a graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node<'a> {
    pub name: &'a str,
    /// Program to which the gene belongs.
    pub group: Option<&'a str>,
    pub is_regulator: bool,
}

/// An edge between two genes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge<'a> {
    /// Index of a node.
    pub from: usize,
    /// Index of a node.
    pub to: usize,
    /// Dropped if it is not finite.
    pub weight: f64,
    /// 1 for the strongest edge.
    pub rank: Option<usize>,
    pub sign: Option<Sign>,
    pub condition: Option<&'a str>,
}

/// A graph; two nodes may have several edges, as of different conditions.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'a> {
    pub nodes: &'a [Node<'a>],
    pub edges: &'a [Edge<'a>],
    pub directed: bool,
}

/// Attributes of nodes and edges: identifier of the key, element, name and type.
const KEYS: [[&str; 4]; 7] = [
    ["name", "node", "name", "string"],
    ["group", "node", "group", "string"],
    ["regulator", "node", "regulator", "boolean"],
    ["weight", "edge", "weight", "double"],
    ["rank", "edge", "rank", "int"],
    ["sign", "edge", "sign", "string"],
    ["condition", "edge", "condition", "string"],
];

impl Graph<'_> {
    /// Writes the graph. Nodes are `n0`, `n1`, ... in their order and edges `e0`, `e1`, ...; letters that XML cannot hold become
    /// U+FFFD.
    ///
    /// # Errors
    /// Those of the writer, and an edge of a node that is not there.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let direction = if self.directed {
            "directed"
        } else {
            "undirected"
        };
        writeln!(to, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(
            to,
            r#"<graphml xmlns="http://graphml.graphdrawing.org/xmlns">"#
        )?;
        for [id, of, name, kind] in KEYS {
            writeln!(
                to,
                r#"  <key id="{id}" for="{of}" attr.name="{name}" attr.type="{kind}"/>"#
            )?;
        }
        writeln!(to, r#"  <graph id="G" edgedefault="{direction}">"#)?;
        for (at, node) in self.nodes.iter().enumerate() {
            node.write(to, at)?;
        }
        for (at, edge) in self.edges.iter().enumerate() {
            self.require_nodes(edge)?;
            edge.write(to, at)?;
        }
        writeln!(to, "  </graph>\n</graphml>")
    }

    fn require_nodes(&self, edge: &Edge<'_>) -> io::Result<()> {
        let nodes = self.nodes.len();
        if edge.from.max(edge.to) < nodes {
            return Ok(());
        }
        let problem = format!("there is no node {} among {nodes}", edge.from.max(edge.to));
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}

impl Node<'_> {
    fn write(&self, to: &mut dyn Write, at: usize) -> io::Result<()> {
        writeln!(to, r#"    <node id="n{at}">"#)?;
        data(to, "name", Some(escaped(self.name)))?;
        data(to, "group", self.group.map(escaped))?;
        data(to, "regulator", Some(self.is_regulator))?;
        writeln!(to, "    </node>")
    }
}

impl Edge<'_> {
    fn write(&self, to: &mut dyn Write, at: usize) -> io::Result<()> {
        let Self {
            from, to: target, ..
        } = self;
        writeln!(
            to,
            r#"    <edge id="e{at}" source="n{from}" target="n{target}">"#
        )?;
        data(
            to,
            "weight",
            Some(self.weight).filter(|weight| weight.is_finite()),
        )?;
        data(to, "rank", self.rank)?;
        data(to, "sign", self.sign.map(word))?;
        data(to, "condition", self.condition.map(escaped))?;
        writeln!(to, "    </edge>")
    }
}

fn data(to: &mut dyn Write, key: &str, value: Option<impl Display>) -> io::Result<()> {
    match value {
        Some(value) => writeln!(to, r#"      <data key="{key}">{value}</data>"#),
        None => Ok(()),
    }
}

fn word(sign: Sign) -> &'static str {
    match sign {
        Sign::Activates => "activation",
        Sign::Represses => "repression",
        Sign::Both => "both",
        Sign::Unknown => "unknown",
    }
}

/// The text as the content of an XML element.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(letter),
            // The letters that XML 1.0 drops, and those it advises against.
            letter if letter.is_control() => escaped.push('\u{FFFD}'),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node as Element};

    use super::*;

    fn text(graph: &Graph<'_>) -> String {
        let mut text = Vec::new();
        graph.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn node(name: &str) -> Node<'_> {
        Node {
            name,
            group: None,
            is_regulator: false,
        }
    }

    fn edge<'a>(from: usize, to: usize) -> Edge<'a> {
        Edge {
            from,
            to,
            weight: 0.5,
            rank: None,
            sign: None,
            condition: None,
        }
    }

    fn elements<'a>(document: &'a Document<'_>, tag: &str) -> Vec<Element<'a, 'a>> {
        document
            .descendants()
            .filter(|element| element.has_tag_name(tag))
            .collect()
    }

    fn value(element: &Element<'_, '_>, key: &str) -> Option<String> {
        let data = element
            .children()
            .find(|data| data.attribute("key") == Some(key));
        data.map(|data| data.text().unwrap_or_default().to_owned())
    }

    #[test]
    fn nodes_and_edges_carry_what_is_known() {
        let stat1 = Node {
            group: Some("program 1"),
            is_regulator: true,
            ..node("STAT1")
        };
        let strong = Edge {
            weight: -0.25,
            rank: Some(1),
            sign: Some(Sign::Represses),
            condition: Some("stim"),
            ..edge(0, 1)
        };
        let graph = Graph {
            nodes: &[stat1, node("IRF1")],
            edges: &[strong, edge(0, 1)],
            directed: true,
        };
        let text = text(&graph);
        let document = Document::parse(&text).unwrap();
        let graphs = elements(&document, "graph");
        assert_eq!(graphs[0].attribute("edgedefault"), Some("directed"));
        let (nodes, edges) = (elements(&document, "node"), elements(&document, "edge"));
        let of = |element, keys: &[&str]| {
            keys.iter()
                .map(|key| value(element, key))
                .collect::<Vec<_>>()
        };
        let some = |values: &[&str]| {
            values
                .iter()
                .map(|value| Some((*value).to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&nodes[0], &["name", "group", "regulator"]),
            some(&["STAT1", "program 1", "true"])
        );
        assert_eq!(
            (value(&nodes[1], "group"), value(&nodes[1], "regulator")),
            (None, Some("false".into()))
        );
        assert_eq!(
            of(&edges[0], &["weight", "rank", "sign", "condition"]),
            some(&["-0.25", "1", "repression", "stim"])
        );
        assert_eq!(
            [edges[0].attribute("source"), edges[1].attribute("target")],
            [Some("n0"), Some("n1")]
        );
        assert_eq!(
            of(&edges[1], &["rank", "sign", "condition"]),
            [None, None, None]
        );
    }

    #[test]
    fn keys_are_declared() {
        let text = text(&Graph {
            nodes: &[node("A")],
            edges: &[edge(0, 0)],
            directed: false,
        });
        let document = Document::parse(&text).unwrap();
        let keys: Vec<_> = elements(&document, "key")
            .iter()
            .map(|key| key.attribute("id").unwrap())
            .collect();
        let data = elements(&document, "data");
        assert!(
            data.len() == 3
                && data
                    .iter()
                    .all(|data| keys.contains(&data.attribute("key").unwrap()))
        );
        assert!(text.contains(r#"edgedefault="undirected""#));
    }

    #[test]
    fn any_name_is_kept_or_replaced() {
        let long = "x".repeat(10_000);
        let cases = [
            ("<script>alert('&')</script>", "<script>alert('&')</script>"),
            ("]]>\"", "]]>\""),
            ("תא\u{202e}abc", "תא\u{202e}abc"),
            (
                "a\0b\u{1b}\u{fffe}\u{85}",
                "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("\r\n\t x", "\r\n\t x"),
            ("", ""),
            (&long, &long),
        ];
        let nodes = cases.map(|(name, _)| Node {
            group: Some(name),
            ..node(name)
        });
        let text = text(&Graph {
            nodes: &nodes,
            edges: &[],
            directed: true,
        });
        let document = Document::parse(&text).unwrap();
        for (element, (_, expected)) in elements(&document, "node").iter().zip(cases) {
            assert_eq!(value(element, "name").unwrap(), expected);
            assert_eq!(value(element, "group").unwrap(), expected);
        }
    }

    #[test]
    fn weights_that_are_no_numbers_are_left_out() {
        for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let edges = [Edge {
                weight,
                ..edge(0, 0)
            }];
            let text = text(&Graph {
                nodes: &[node("A")],
                edges: &edges,
                directed: true,
            });
            assert!(!text.contains("<data key=\"weight\""));
        }
    }

    #[test]
    fn an_empty_graph_is_one_and_a_missing_node_an_error() {
        let mut graph = Graph {
            nodes: &[],
            edges: &[],
            directed: true,
        };
        assert!(elements(&Document::parse(&text(&graph)).unwrap(), "node").is_empty());
        let edges = [edge(0, 7)];
        graph.edges = &edges;
        let error = graph.write(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("no node 7 among 0"), "{error}");
    }
}
