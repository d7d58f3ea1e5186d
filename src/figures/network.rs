//! Who regulates whom, or which genes are alike, as a graph.

mod layout;

use std::collections::{HashMap, HashSet};

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Canvas, Style};
use super::labels::{fitted, width};
use super::palette::{FAINT, INK, UNLABELLED, colour};
use layout::{Pair, length, minus, plus};

const LETTERS: f64 = 12.0;
const GAP: i32 = 8;
const TITLE: i32 = 44;
const LINE: i32 = 22;
/// What stays readable.
const NODES: usize = 60;
const EDGES: usize = 200;
/// Of more groups, nodes also have the number.
const TOLD_APART: usize = 8;
/// Groups that the legend names.
const GROUPS: usize = 24;
/// The widest name, and the height of a node.
const NAME: i32 = 110;
const HEIGHT: f64 = 24.0;
/// Length and half the width of an arrow head.
const HEAD: Pair = [9.0, 4.5];

/// A gene.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub name: &'a str,
    /// Index into the names of groups.
    pub group: Option<usize>,
    /// Regulators are hexagons in full colour, other genes are round and pale.
    pub is_regulator: bool,
}

/// An edge between two nodes, given by their indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// Edges below 0 are dashed and end in a bar.
    pub weight: f64,
}

/// A graph of genes.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    pub title: &'a str,
    pub nodes: &'a [Node<'a>],
    pub edges: &'a [Edge],
    /// Whether edges have heads.
    pub directed: bool,
    /// Names of groups, such as programs.
    pub groups: &'a [String],
}

impl Network<'_> {
    /// The figure as SVG.
    ///
    /// At most 60 nodes and 200 edges are drawn, those of the largest weights; the figure says how many are not. Of several edges
    /// between the same nodes (in the same direction), the strongest is drawn; edges whose weight is not finite or whose nodes are
    /// not there are left out.
    pub fn to_svg(&self) -> String {
        let shown = Shown::of(self);
        let drawing = Drawing::new(self, &shown);
        let legend = Legend::new(self, &shown);
        let note = shown.note(self);
        let (left, top) = (2 * GAP, TITLE);
        let across = (drawing.page[0].ceil() as i32).max(120);
        let down = (drawing.page[1].ceil() as i32).max(legend.height());
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
            drawing.draw(canvas, [f64::from(left), f64::from(top)]);
            legend.draw(canvas, (left + across + 2 * GAP, top));
            let style = Style::new(LETTERS, HPos::Left, FAINT);
            canvas.text(&note, (left, page.1 - 2 * GAP), style);
        })
    }
}

/// The nodes and edges that are drawn.
struct Shown {
    nodes: Vec<usize>,
    /// Ends are places in `nodes`.
    edges: Vec<Edge>,
}

impl Shown {
    fn of(network: &Network<'_>) -> Self {
        let n = network.nodes.len();
        let can_be = |edge: &&Edge| edge.weight.is_finite() && edge.from.max(edge.to) < n;
        let mut strongest: Vec<&Edge> = network.edges.iter().filter(can_be).collect();
        strongest.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        let (mut places, mut pairs) = (HashMap::new(), HashSet::new());
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
                .filter(|end| !places.contains_key(end))
                .collect();
            if shown.edges.len() == EDGES || places.len() + new.len() > NODES || !pairs.insert(pair)
            {
                continue;
            }
            let [from, to] = ends.map(|end| shown.place(&mut places, end));
            shown.edges.push(Edge { from, to, ..*edge });
        }
        for node in 0..n {
            if places.len() == NODES {
                break;
            }
            shown.place(&mut places, node);
        }
        shown
    }

    fn place(&mut self, places: &mut HashMap<usize, usize>, node: usize) -> usize {
        *places.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// What is drawn, and what is not.
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

/// How an edge looks.
#[derive(Clone, Copy)]
struct Stroke {
    colour: RGBColor,
    /// From 0 to 1.
    strength: f64,
    is_negative: bool,
}

impl Stroke {
    fn new(weight: f64, strongest: f64, has_signs: bool) -> Self {
        let share = if strongest > 0.0 {
            weight.abs() / strongest
        } else {
            1.0
        };
        Self {
            colour: match (has_signs, weight < 0.0) {
                (false, _) => FAINT,
                (true, false) => colour(0),
                (true, true) => colour(3),
            },
            strength: share,
            is_negative: weight < 0.0,
        }
    }

    fn style(self) -> ShapeStyle {
        let thick = 1.0 + 3.0 * self.strength;
        self.colour
            .mix(0.5 + 0.35 * self.strength)
            .stroke_width(thick.round() as u32)
    }

    /// A line through the points, in dashes if the weight is negative.
    fn draw(self, canvas: &Canvas<'_>, points: &[Pair]) {
        if !self.is_negative {
            canvas.line(points.iter().copied().map(pixel).collect(), self.style());
            return;
        }
        for dash in dashes(points) {
            canvas.line(dash.into_iter().map(pixel).collect(), self.style());
        }
    }

    /// An arrow head or, if the weight is negative, a bar, at the end of a line that comes from another point.
    fn draw_end(self, canvas: &Canvas<'_>, from: Pair, tip: Pair) {
        let along = minus(tip, from);
        let along = along.map(|part| part / length(along).max(1e-9));
        let at = |back: f64, aside: f64| {
            pixel([
                tip[0] - back * along[0] - aside * along[1],
                tip[1] - back * along[1] + aside * along[0],
            ])
        };
        let colour = self.colour.mix(0.6 + 0.4 * self.strength);
        if self.is_negative {
            canvas.line(
                vec![at(1.0, -HEAD[1] - 1.5), at(1.0, HEAD[1] + 1.5)],
                colour.stroke_width(3),
            );
        } else {
            canvas.polygon(
                vec![at(0.0, 0.0), at(HEAD[0], -HEAD[1]), at(HEAD[0], HEAD[1])],
                colour.filled(),
            );
        }
    }
}

/// Pieces of a line with gaps between them.
fn dashes(points: &[Pair]) -> Vec<[Pair; 2]> {
    const DASH: [f64; 2] = [7.0, 5.0];
    let (mut dashes, mut walked) = (Vec::new(), 0.0f64);
    for ends in points.windows(2) {
        let along = minus(ends[1], ends[0]);
        let total = length(along);
        let at = |way: f64| {
            plus(
                ends[0],
                along.map(|part| part * (way.min(total) / total.max(1e-9))),
            )
        };
        let mut way = -(walked % (DASH[0] + DASH[1]));
        while way < total {
            if way + DASH[0] > 0.0 {
                dashes.push([at(way.max(0.0)), at(way + DASH[0])]);
            }
            way += DASH[0] + DASH[1];
        }
        walked += total;
    }
    dashes
}

fn pixel(place: Pair) -> (i32, i32) {
    (place[0].round() as i32, place[1].round() as i32)
}

/// A node with its place.
struct Pill {
    text: String,
    centre: Pair,
    size: Pair,
    colour: RGBColor,
    is_regulator: bool,
}

impl Pill {
    fn new(node: &Node<'_>, is_numbered: bool) -> Self {
        let number = node
            .group
            .filter(|_| is_numbered)
            .map(|group| format!(" ({})", group + 1));
        let text = fitted(node.name, NAME, LETTERS) + &number.unwrap_or_default();
        Self {
            // An even width, so that both ends are alike.
            size: [
                f64::from(width(&text, LETTERS - 0.5).max(16) / 2 * 2) + 18.0,
                HEIGHT,
            ],
            text,
            centre: [0.0; 2],
            colour: node.group.map_or(UNLABELLED, colour),
            is_regulator: node.is_regulator,
        }
    }

    fn contains(&self, place: Pair) -> bool {
        (0..2).all(|axis| (place[axis] - self.centre[axis]).abs() < self.size[axis] / 2.0 + 1.0)
    }

    fn draw(&self, canvas: &Canvas<'_>, by: Pair) {
        let at = pixel(plus(self.centre, by));
        let half = self.size.map(|side| side as i32 / 2);
        let style = Style::new(LETTERS - 0.5, HPos::Center, INK);
        if self.is_regulator {
            draw_hexagon(canvas, at, half, self.colour);
            let colour = readable_on(self.colour);
            canvas.text(&self.text, at, Style { colour, ..style }.bold());
        } else {
            let border = if self.colour == UNLABELLED {
                FAINT
            } else {
                self.colour
            };
            draw_round(canvas, at, half, border);
            draw_round(canvas, at, half.map(|side| side - 1), pale(self.colour));
            canvas.text(&self.text, at, style);
        }
    }
}

/// A box that points to both sides; `half` its width and height.
fn draw_hexagon(canvas: &Canvas<'_>, (x, y): (i32, i32), half: [i32; 2], colour: RGBColor) {
    let [across, down] = half;
    let inner = across - down * 2 / 3;
    let corner = |[across, down]: [i32; 2]| (x + across, y + down);
    let right = [[inner, -down], [across, 0], [inner, down]];
    let left = [[-inner, down], [-across, 0], [-inner, -down]];
    let mut corners: Vec<(i32, i32)> = right.into_iter().chain(left).map(corner).collect();
    canvas.polygon(corners.clone(), colour.filled());
    corners.push(corners[0]);
    canvas.line(corners, INK.stroke_width(2));
}

/// A box with round ends; `half` its width and height.
fn draw_round(canvas: &Canvas<'_>, (x, y): (i32, i32), half: [i32; 2], colour: RGBColor) {
    let [across, radius] = half;
    let inner = across - radius;
    canvas.circle((x - inner, y), radius, colour.filled());
    canvas.circle((x + inner, y), radius, colour.filled());
    canvas.rectangle(
        (x - inner, y - radius),
        (2 * inner, 2 * radius),
        colour.filled(),
    );
}

fn readable_on(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 135.0 { INK } else { WHITE }
}

fn pale(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let mix = |channel: u8| (255.0 - 0.2 * (255.0 - f64::from(channel))).round() as u8;
    RGBColor(mix(red), mix(green), mix(blue))
}

/// Nodes and edges with their places.
struct Drawing {
    pills: Vec<Pill>,
    edges: Vec<(Edge, Stroke)>,
    directed: bool,
    page: Pair,
}

impl Drawing {
    fn new(network: &Network<'_>, shown: &Shown) -> Self {
        let is_numbered = shown.groups(network).len() > TOLD_APART;
        let mut pills: Vec<Pill> = shown
            .nodes
            .iter()
            .map(|&node| Pill::new(&network.nodes[node], is_numbered))
            .collect();
        let sizes: Vec<Pair> = pills.iter().map(|pill| pill.size).collect();
        let ends: Vec<[usize; 2]> = shown
            .edges
            .iter()
            .map(|edge| [edge.from, edge.to])
            .collect();
        let (places, page) = layout::places(&sizes, &ends);
        for (pill, place) in pills.iter_mut().zip(places) {
            pill.centre = place;
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
            pills,
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
        for pill in &self.pills {
            pill.draw(canvas, by);
        }
    }

    /// A circle that looks out above a node.
    fn draw_loop(&self, canvas: &Canvas<'_>, node: usize, stroke: Stroke, by: Pair) {
        let Pill { centre, size, .. } = self.pills[node];
        let at = plus(plus(centre, by), [size[0] / 2.0 - 14.0, -size[1] / 2.0]);
        canvas.circle(pixel(at), 7, stroke.style());
    }

    /// An edge between the borders of its nodes, bent if there is one back.
    fn draw_edge(&self, canvas: &Canvas<'_>, edge: &Edge, stroke: Stroke, is_bent: bool, by: Pair) {
        let [from, to] = [edge.from, edge.to].map(|node| &self.pills[node]);
        let along = minus(to.centre, from.centre);
        let bend = if is_bent { 0.12 } else { 0.0 };
        let curve = |share: f64| {
            let aside = 4.0 * bend * share * (1.0 - share);
            plus(
                from.centre,
                [
                    share * along[0] - aside * along[1],
                    share * along[1] + aside * along[0],
                ],
            )
        };
        let start = border(|share| from.contains(curve(share)));
        let end = 1.0 - border(|share| to.contains(curve(1.0 - share)));
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

/// Where, from 0 to 1, a way that begins inside leaves.
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

/// What colours, shapes and lines mean.
struct Legend {
    lines: Vec<(Sign, String)>,
    directed: bool,
}

enum Sign {
    Group(RGBColor),
    Shape { is_regulator: bool },
    Line(Stroke),
    Nothing,
}

impl Legend {
    fn new(network: &Network<'_>, shown: &Shown) -> Self {
        let groups = shown.groups(network);
        let is_numbered = groups.len() > TOLD_APART;
        let mut lines = Vec::new();
        for &group in groups.iter().take(GROUPS) {
            let name = network.groups.get(group).map_or_else(
                || format!("group {}", group + 1),
                |name| fitted(name, 220, LETTERS),
            );
            let number = if is_numbered {
                format!("({}) ", group + 1)
            } else {
                String::new()
            };
            lines.push((Sign::Group(colour(group)), number + &name));
        }
        if groups.len() > GROUPS {
            lines.push((
                Sign::Nothing,
                format!("and {} more groups", groups.len() - GROUPS),
            ));
        }
        let has = |group: bool| {
            shown
                .nodes
                .iter()
                .any(|&node| network.nodes[node].group.is_some() == group)
        };
        if has(true) && has(false) {
            lines.push((Sign::Group(UNLABELLED), "no group".into()));
        }
        lines.extend(Self::shapes(network, shown));
        lines.extend(Self::strokes(shown));
        Self {
            lines,
            directed: network.directed,
        }
    }

    fn shapes(network: &Network<'_>, shown: &Shown) -> Vec<(Sign, String)> {
        let has = |regulator: bool| {
            shown
                .nodes
                .iter()
                .any(|&node| network.nodes[node].is_regulator == regulator)
        };
        match has(true) {
            true => [(true, "regulator"), (false, "other gene")]
                .into_iter()
                .filter(|(is_regulator, _)| has(*is_regulator))
                .map(|(is_regulator, text)| (Sign::Shape { is_regulator }, text.to_owned()))
                .collect(),
            false => Vec::new(),
        }
    }

    fn strokes(shown: &Shown) -> Vec<(Sign, String)> {
        let (strongest, has_signs) = (shown.strongest(), shown.has_signs());
        let weakest = shown
            .edges
            .iter()
            .map(|edge| edge.weight.abs())
            .fold(strongest, f64::min);
        let line = |weight: f64, text: String| {
            (Sign::Line(Stroke::new(weight, strongest, has_signs)), text)
        };
        let mut lines = Vec::new();
        if shown.edges.is_empty() {
            return lines;
        }
        if has_signs {
            lines.push(line(strongest, "weight above 0".into()));
            lines.push(line(-strongest, "weight below 0".into()));
        }
        let size = if has_signs {
            "size of weight"
        } else {
            "weight"
        };
        lines.push(line(strongest, format!("{size} {}", rounded(strongest))));
        if weakest < strongest {
            lines.push(line(weakest, format!("{size} {}", rounded(weakest))));
        }
        lines
    }

    fn width(&self) -> i32 {
        let widest = self
            .lines
            .iter()
            .map(|(_, text)| width(text, LETTERS))
            .max();
        widest.map_or(0, |widest| widest + 52)
    }

    fn height(&self) -> i32 {
        LINE * self.lines.len() as i32
    }

    fn draw(&self, canvas: &Canvas<'_>, (left, top): (i32, i32)) {
        for (line, (sign, text)) in self.lines.iter().enumerate() {
            let y = top + LINE * line as i32 + LINE / 2;
            let [start, end] = [[left, y], [left + 34, y]].map(|place| place.map(f64::from));
            match sign {
                Sign::Group(colour) => {
                    canvas.rectangle((left + 10, y - 7), (14, 14), colour.filled())
                }
                Sign::Shape { is_regulator: true } => {
                    draw_hexagon(canvas, (left + 17, y), [16, 7], UNLABELLED)
                }
                Sign::Shape {
                    is_regulator: false,
                } => {
                    draw_round(canvas, (left + 17, y), [16, 7], FAINT);
                    draw_round(canvas, (left + 17, y), [15, 6], WHITE);
                }
                Sign::Line(stroke) => {
                    let short = if self.directed && !stroke.is_negative {
                        HEAD[0]
                    } else {
                        0.0
                    };
                    stroke.draw(canvas, &[start, minus(end, [short, 0.0])]);
                    if self.directed {
                        stroke.draw_end(canvas, start, end);
                    }
                }
                Sign::Nothing => {}
            }
            canvas.text(text, (left + 44, y), Style::new(LETTERS, HPos::Left, INK));
        }
    }
}

/// Three digits of a number.
fn rounded(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if (1e-3..1e5).contains(&value) => {
            let digits = (2.0 - value.log10().floor()).max(0.0) as usize;
            let text = format!("{value:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        value => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        roxmltree::Document::parse(&svg).expect("XML");
        assert_eq!(svg, network.to_svg());
        inside(&svg);
        svg
    }

    /// All points and texts are on the page.
    fn inside(svg: &str) {
        let document = roxmltree::Document::parse(svg).unwrap();
        let number = |element: &roxmltree::Node<'_, '_>, name| {
            element
                .attribute(name)
                .and_then(|text| text.parse::<f64>().ok())
        };
        let root = document.root_element();
        let page = [
            number(&root, "width").unwrap(),
            number(&root, "height").unwrap(),
        ];
        let check = |x: f64, y: f64| {
            assert!(
                (0.0..=page[0]).contains(&x) && (0.0..=page[1]).contains(&y),
                "{x} {y} of {page:?}"
            )
        };
        for element in document.descendants() {
            for point in element
                .attribute("points")
                .unwrap_or_default()
                .split_whitespace()
            {
                let (x, y) = point.split_once(',').unwrap();
                check(x.parse().unwrap(), y.parse().unwrap());
            }
            if element.has_tag_name("text") {
                let words = element.text().unwrap_or_default().trim();
                let length = f64::from(width(words, number(&element, "font-size").unwrap()));
                let before = if element.attribute("text-anchor") == Some("middle") {
                    length / 2.0
                } else {
                    0.0
                };
                let [x, y] = [
                    number(&element, "x").unwrap(),
                    number(&element, "y").unwrap(),
                ];
                check(x - before, y);
                check(x - before + length, y);
            }
        }
    }

    fn count(svg: &str, attribute: &str, RGBColor(red, green, blue): RGBColor) -> usize {
        svg.matches(&format!("{attribute}=\"#{red:02X}{green:02X}{blue:02X}\""))
            .count()
    }

    #[test]
    fn colours_shapes_and_lines_say_what_is_what() {
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
            count(&figure, "fill", colour(1)),
            2,
            "the gene and the legend"
        );
        assert!(count(&figure, "stroke", colour(3)) > 6, "dashes");
        let plain = svg(&nodes, &[edge(0, 1, 2.0), edge(0, 2, 1.0)], false);
        assert_eq!(
            count(&plain, "stroke", colour(3)) + count(&plain, "stroke", colour(0)),
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
    fn the_strongest_edges_are_drawn_and_the_others_counted() {
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
    fn many_groups_are_also_told_by_number() {
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
    fn dashes_follow_a_bent_line() {
        let points = [[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]];
        let dashes = dashes(&points);
        let total: f64 = dashes
            .iter()
            .map(|[from, to]| length(minus(*to, *from)))
            .sum();
        assert!((40.0..=44.0).contains(&total), "{total} of 70");
        assert!(super::dashes(&[[1.0, 1.0], [1.0, 1.0]]).len() <= 1);
        assert!(super::dashes(&[]).is_empty());
    }

    #[test]
    fn odd_input_does_no_harm() {
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
        inside(&network.to_svg());
    }
}
