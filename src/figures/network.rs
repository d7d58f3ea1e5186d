//! Gene network figure: regulation or similarity.

mod label_box;
mod layout;
mod legend;
mod stroke;

use std::collections::{HashMap, HashSet};

use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style};
use super::labels::{fitted, width};
use super::palette::{FAINT, INK};
use label_box::LabelBox;
use layout::{Pair, length, minus, plus};
use legend::Legend;
use stroke::{HEAD, Stroke, pixel};

const LETTERS: f64 = 12.0;
const GAP: i32 = 8;
const TITLE: i32 = 44;
const LINE: i32 = 22;
/// Maximum numbers of nodes and edges, for readability.
const NODES: usize = 60;
const EDGES: usize = 200;
/// Maximum number of groups whose nodes are not numbered.
const UNNUMBERED_GROUPS: usize = 8;
/// Maximum name width, and node height.
const NAME: i32 = 110;
const HEIGHT: f64 = 24.0;

/// A gene.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub name: &'a str,
    /// Index into the names of groups.
    pub group: Option<usize>,
    /// Regulators are hexagons in full color, other genes are rounded and pale.
    pub is_regulator: bool,
}

/// An edge between two nodes, given by their indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// Negative edges are dashed and end in a bar.
    pub weight: f64,
}

/// A graph of genes.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    pub title: &'a str,
    pub nodes: &'a [Node<'a>],
    pub edges: &'a [Edge],
    /// Whether edges have arrow heads.
    pub directed: bool,
    /// Names of groups, such as programs.
    pub groups: &'a [String],
}

impl Network<'_> {
    /// The figure as SVG.
    ///
    /// At most 60 nodes and 200 edges with the largest weights are plotted, with a note about the others. Of several edges
    /// between the same nodes (in the same direction), the strongest is plotted; edges with a weight that is not finite or with
    /// missing nodes are dropped.
    pub fn to_svg(&self) -> String {
        let shown = Shown::of(self);
        let plot = Plot::new(self, &shown);
        let legend = Legend::new(self, &shown);
        let note = shown.note(self);
        let (left, top) = (2 * GAP, TITLE);
        let across = (plot.page[0].ceil() as i32).max(120);
        let down = (plot.page[1].ceil() as i32).max(legend.height());
        let wide = (across + legend.width() + 6 * GAP).max(width(&note, LETTERS) + 4 * GAP);
        let page = (
            wide.max(width(self.title, 17.0).min(640) + 4 * GAP),
            top + down + 5 * GAP,
        );
        Canvas::draw(page, |canvas| {
            let title = fitted(self.title, page.0 - 4 * GAP, 17.0);
            canvas.text(
                &title,
                (left, TITLE / 2),
                Style::new(16.0, HPos::Left, INK).bold(),
            );
            plot.draw(canvas, [f64::from(left), f64::from(top)]);
            legend.draw(canvas, (left + across + 2 * GAP, top));
            let style = Style::new(LETTERS, HPos::Left, FAINT);
            canvas.text(&note, (left, page.1 - 2 * GAP), style);
        })
    }
}

/// The plotted nodes and edges.
struct Shown {
    nodes: Vec<usize>,
    /// Ends are indices into `nodes`.
    edges: Vec<Edge>,
}

impl Shown {
    fn of(network: &Network<'_>) -> Self {
        let n = network.nodes.len();
        let can_be = |edge: &&Edge| edge.weight.is_finite() && edge.from.max(edge.to) < n;
        let mut strongest: Vec<&Edge> = network.edges.iter().filter(can_be).collect();
        strongest.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        let (mut positions, mut pairs) = (HashMap::new(), HashSet::new());
        let mut shown = Self {
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        for edge in strongest {
            let ends = [edge.from, edge.to];
            let pair = if network.directed || edge.from < edge.to {
                ends
            } else {
                [edge.to, edge.from]
            };
            let new: HashSet<usize> = ends
                .into_iter()
                .filter(|end| !positions.contains_key(end))
                .collect();
            if shown.edges.len() == EDGES
                || positions.len() + new.len() > NODES
                || !pairs.insert(pair)
            {
                continue;
            }
            let [from, to] = ends.map(|end| shown.position(&mut positions, end));
            shown.edges.push(Edge { from, to, ..*edge });
        }
        for node in 0..n {
            if positions.len() == NODES {
                break;
            }
            shown.position(&mut positions, node);
        }
        shown
    }

    fn position(&mut self, positions: &mut HashMap<usize, usize>, node: usize) -> usize {
        *positions.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// Numbers of plotted and omitted nodes and edges.
    fn note(&self, network: &Network<'_>) -> String {
        let part = |shown: usize, all: usize, what: &str| match all {
            all if all == shown => format!("{all} {what}{}", if all == 1 { "" } else { "s" }),
            all => format!("{shown} of {all} {what}s"),
        };
        let nodes = part(self.nodes.len(), network.nodes.len(), "gene");
        let edges = part(self.edges.len(), network.edges.len(), "edge");
        let left = network.edges.len() - self.edges.len();
        match left {
            0 => format!("{nodes}, {edges}"),
            left => format!("{nodes}, {edges}: the strongest; {left} not shown"),
        }
    }

    fn has_signs(&self) -> bool {
        self.edges.iter().any(|edge| edge.weight < 0.0)
    }

    fn strongest(&self) -> f64 {
        self.edges
            .iter()
            .map(|edge| edge.weight.abs())
            .fold(0.0, f64::max)
    }

    /// Groups of the nodes, in order.
    fn groups(&self, network: &Network<'_>) -> Vec<usize> {
        let mut groups: Vec<usize> = self
            .nodes
            .iter()
            .filter_map(|&node| network.nodes[node].group)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// Nodes and edges with their positions.
struct Plot {
    boxes: Vec<LabelBox>,
    edges: Vec<(Edge, Stroke)>,
    directed: bool,
    page: Pair,
}

impl Plot {
    fn new(network: &Network<'_>, shown: &Shown) -> Self {
        let is_numbered = shown.groups(network).len() > UNNUMBERED_GROUPS;
        let mut boxes: Vec<LabelBox> = shown
            .nodes
            .iter()
            .map(|&node| LabelBox::new(&network.nodes[node], is_numbered))
            .collect();
        let sizes: Vec<Pair> = boxes.iter().map(|label_box| label_box.size).collect();
        let ends: Vec<[usize; 2]> = shown
            .edges
            .iter()
            .map(|edge| [edge.from, edge.to])
            .collect();
        let (positions, page) = layout::positions(&sizes, &ends);
        for (label_box, position) in boxes.iter_mut().zip(positions) {
            label_box.center = position;
        }
        let stroke = |edge: &Edge| Stroke::new(edge.weight, shown.strongest(), shown.has_signs());
        // Weak edges first, so that they do not cover strong ones.
        let edges = shown
            .edges
            .iter()
            .rev()
            .map(|edge| (*edge, stroke(edge)))
            .collect();
        Self {
            boxes,
            edges,
            directed: network.directed,
            page,
        }
    }

    fn draw(&self, canvas: &Canvas<'_>, by: Pair) {
        let pairs: HashSet<[usize; 2]> = self
            .edges
            .iter()
            .map(|(edge, _)| [edge.from, edge.to])
            .collect();
        for (edge, stroke) in &self.edges {
            let is_mutual = self.directed && pairs.contains(&[edge.to, edge.from]);
            match edge.from == edge.to {
                true => self.draw_loop(canvas, edge.from, *stroke, by),
                false => self.draw_edge(canvas, edge, *stroke, is_mutual, by),
            }
        }
        for label_box in &self.boxes {
            label_box.draw(canvas, by);
        }
    }

    /// A loop above a node.
    fn draw_loop(&self, canvas: &Canvas<'_>, node: usize, stroke: Stroke, by: Pair) {
        let LabelBox { center, size, .. } = self.boxes[node];
        let at = plus(plus(center, by), [size[0] / 2.0 - 14.0, -size[1] / 2.0]);
        canvas.circle(pixel(at), 7, stroke.style());
    }

    /// An edge between the borders of its nodes, bent if there is a reverse edge.
    fn draw_edge(&self, canvas: &Canvas<'_>, edge: &Edge, stroke: Stroke, is_bent: bool, by: Pair) {
        let [from, to] = [edge.from, edge.to].map(|node| &self.boxes[node]);
        let along = minus(to.center, from.center);
        let bend = if is_bent { 0.12 } else { 0.0 };
        let curve = |t: f64| {
            let bow = 4.0 * bend * t * (1.0 - t);
            plus(
                from.center,
                [t * along[0] - bow * along[1], t * along[1] + bow * along[0]],
            )
        };
        let start = border(|t| from.contains(curve(t)));
        let end = 1.0 - border(|t| to.contains(curve(1.0 - t)));
        let tip = plus(curve(end), by);
        let head = match (self.directed, stroke.is_negative) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => HEAD[0] - 1.0,
        };
        let last = (end - head / length(along).max(1.0)).max(start);
        let steps = if is_bent { 16 } else { 1 };
        let point = |step: usize| {
            plus(
                curve(start + (last - start) * step as f64 / steps as f64),
                by,
            )
        };
        stroke.draw(canvas, &(0..=steps).map(point).collect::<Vec<_>>());
        if self.directed {
            stroke.draw_end(canvas, plus(curve((start + 3.0 * last) / 4.0), by), tip);
        }
    }
}

/// Position, from 0 to 1, at which a curve that begins inside leaves.
fn border(is_inside: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..20 {
        let middle = (low + high) / 2.0;
        if is_inside(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::palette::color;
    use crate::figures::tests::assert_on_page;
    use plotters::style::RGBColor;

    fn node(name: &str) -> Node<'_> {
        Node {
            name,
            group: None,
            is_regulator: false,
        }
    }

    fn edge(from: usize, to: usize, weight: f64) -> Edge {
        Edge { from, to, weight }
    }

    fn svg(nodes: &[Node<'_>], edges: &[Edge], directed: bool) -> String {
        let groups = ["one".to_owned(), "two & <b>".to_owned()];
        let network = Network {
            title: "Genes\u{1} & <script>",
            nodes,
            edges,
            directed,
            groups: &groups,
        };
        let svg = network.to_svg();
        assert_eq!(svg, network.to_svg());
        assert_on_page(&svg);
        svg
    }

    fn count(svg: &str, attribute: &str, RGBColor(red, green, blue): RGBColor) -> usize {
        svg.matches(&format!("{attribute}=\"#{red:02X}{green:02X}{blue:02X}\""))
            .count()
    }

    #[test]
    fn legend_explains_colors_shapes_and_lines() {
        let stat = Node {
            group: Some(1),
            is_regulator: true,
            ..node("STAT1")
        };
        let nodes = [stat, node("IRF1"), node("TP53 <i>")];
        let figure = svg(&nodes, &[edge(0, 1, 2.0), edge(0, 2, -1.0)], true);
        for text in [
            "STAT1",
            "TP53 &lt;i&gt;",
            "two &amp; &lt;b&gt;",
            "no group",
            "regulator",
            "other gene",
            "weight below 0",
            "size of weight 2\n",
            "3 genes, 2 edges\n",
        ] {
            assert!(figure.contains(text), "{text} is not in\n{figure}");
        }
        assert!(!figure.contains("\none\n"), "a group without genes");
        assert_eq!(
            count(&figure, "fill", color(1)),
            2,
            "the gene and the legend"
        );
        assert!(count(&figure, "stroke", color(3)) > 6, "dashes");
        let plain = svg(&nodes, &[edge(0, 1, 2.0), edge(0, 2, 1.0)], false);
        assert_eq!(
            count(&plain, "stroke", color(3)) + count(&plain, "stroke", color(0)),
            0,
            "no signs"
        );
        let heads = |svg: &str| svg.matches("<polygon").count();
        assert_eq!(heads(&plain), 1 + 1, "the regulator and the legend");
        let directed = svg(&nodes, &[edge(0, 1, 2.0), edge(0, 2, 1.0)], true);
        assert_eq!(
            heads(&directed),
            heads(&plain) + 2 + 2,
            "heads of edges and of the legend"
        );
    }

    #[test]
    fn the_strongest_edges_are_plotted_and_the_others_counted() {
        let names: Vec<String> = (0..500).map(|i| format!("G{i}.")).collect();
        let nodes: Vec<Node<'_>> = names.iter().map(|name| node(name)).collect();
        let edges: Vec<Edge> = (0..9000)
            .map(|i| edge(i * 7 % 500, i * 13 % 499, -(i as f64)))
            .collect();
        let figure = svg(&nodes, &edges, true);
        assert!(figure.contains("60 of 500 genes"));
        assert!(figure.contains(&format!("G{}.", 8999 * 7 % 500)));
        assert!(figure.len() < 600_000, "{}", figure.len());
        let same = svg(
            &nodes[..2],
            &[edge(0, 1, 1.0), edge(1, 0, 3.0), edge(0, 1, 2.0)],
            false,
        );
        assert!(
            same.contains("2 genes, 1 of 3 edges: the strongest; 2 not shown")
                && same.contains("weight 3\n")
        );
        let mutual = svg(
            &nodes[..2],
            &[edge(0, 1, 1.0), edge(1, 0, 3.0), edge(0, 1, 2.0)],
            true,
        );
        assert!(mutual.contains("2 of 3 edges"));
    }

    #[test]
    fn many_groups_are_numbered() {
        let of = |n: usize| {
            (0..n)
                .map(|i| Node {
                    group: Some(i),
                    ..node("GENE")
                })
                .collect::<Vec<_>>()
        };
        assert!(svg(&of(40), &[], false).contains("GENE (40)"));
        assert!(svg(&of(40), &[], false).contains("and 16 more groups"));
        assert!(!svg(&of(8), &[], false).contains("GENE ("));
        assert!(
            svg(&of(3), &[], false).contains("group 3"),
            "a group without a name"
        );
    }

    #[test]
    fn unusual_input_is_handled() {
        let long = "x".repeat(10_000);
        let groups = [Some(0), None, Some(usize::MAX - 1), Some(1), Some(1)];
        let names = [&long, "", "שלום <script>", "\u{0}\n漢字", "a"];
        let nodes: Vec<Node<'_>> = names
            .iter()
            .zip(groups)
            .map(|(name, group)| Node {
                group,
                ..node(name)
            })
            .collect();
        let weights = [
            f64::NAN,
            f64::INFINITY,
            0.0,
            f64::MAX,
            -f64::MAX,
            5e-324,
            -1.0,
        ];
        let edges: Vec<Edge> = weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| edge(i % 5, (i * 3 + 1) % 5, weight))
            .collect();
        for directed in [true, false] {
            let figure = svg(&nodes, &edges, directed);
            assert!(figure.contains("&lt;script&gt;") && figure.contains('…'));
            svg(&nodes, &[], directed);
            svg(
                &nodes,
                &[edge(0, 0, 1.0), edge(7, 0, 1.0), edge(1, 2, 0.0)],
                directed,
            );
            svg(&nodes[..1], &[edge(0, 0, -1.0)], directed);
            svg(&[], &[], directed);
        }
        let network = Network {
            title: &long,
            nodes: &nodes,
            edges: &edges,
            directed: true,
            groups: &[long.clone(), long.clone()],
        };
        assert_on_page(&network.to_svg());
    }
}
