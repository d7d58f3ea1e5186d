//! Local quadratic regression of one variable (loess), evaluated by interpolation.
//!
//! Local fits are made at few vertices: the ends of the data, widened a little, and the cuts of a k-d tree whose cells
//! hold at most `span * CELL` of the points. Between two vertices the curve is the cubic that takes their fitted values
//! and slopes. This is the interpolating surface of the published routine (Cleveland and Grosse 1991, Statistics and
//! Computing 1:47), gaussian family, and agrees with it to rounding. Where that routine stops with an error (too few
//! points, or all neighbors in one place) this one uses what there is: see [`Local::at`].

/// Fraction of a neighborhood that a cell of the tree may hold.
const CELL: f64 = 0.2;

/// Coefficients of a local parabola: value, slope, half the curvature.
const TERMS: usize = 3;

/// Fits y on x with neighborhoods of the fraction `span` of the points, and returns the fitted value for each point.
///
/// `x` and `y` are finite and equally long.
pub fn fit(x: &[f64], y: &[f64], span: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let x_sorted: Vec<f64> = order.iter().map(|&i| x[i]).collect();
    let y_sorted: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let vertices = vertices(&x_sorted, span);
    let local = Local {
        x: &x_sorted,
        y: &y_sorted,
        neighbors: neighbors(x.len(), span),
    };
    let fits: Vec<[f64; 2]> = vertices.iter().map(|&vertex| local.at(vertex)).collect();
    x.iter()
        .map(|&point| interpolate(&vertices, &fits, point))
        .collect()
}

fn neighbors(n: usize, span: f64) -> usize {
    // The small number keeps products such as 0.3 * 90 from being rounded down.
    ((n as f64 * span + 1e-5).floor() as usize)
        .max(TERMS)
        .min(n)
}

/// Ends and cuts of the cells, increasing; none without points.
fn vertices(x: &[f64], span: f64) -> Vec<f64> {
    let (Some(&first), Some(&last)) = (x.first(), x.last()) else {
        return Vec::new();
    };
    let margin = 0.005 * (last - first).max(1e-10 * first.abs().max(last.abs()) + 1e-30);
    let mut vertices = vec![first - margin, last + margin];
    let leaf = (x.len() as f64 * span * CELL).floor() as usize;
    cut(x, (first - margin, last + margin), leaf, &mut vertices);
    vertices.sort_by(f64::total_cmp);
    vertices
}

/// Adds the cuts of the cell that holds the points `x` and reaches between the two bounds.
fn cut(x: &[f64], (low, high): (f64, f64), leaf: usize, vertices: &mut Vec<f64>) {
    if x.len() <= leaf {
        return;
    }
    let middle = split(x);
    let at = x[middle];
    if at == low || at == high {
        return;
    }
    vertices.push(at);
    cut(&x[..=middle], (low, at), leaf, vertices);
    cut(&x[middle + 1..], (at, high), leaf, vertices);
}

/// Last point of the lower half; equal points stay on one side, so the nearest step in x is taken, upwards first.
fn split(x: &[f64]) -> usize {
    let middle = (x.len() - 1) / 2;
    for distance in 0..x.len() {
        let above = middle + distance;
        if above + 1 >= x.len() {
            return middle;
        }
        if x[above] != x[above + 1] {
            return above;
        }
        let Some(below) = middle.checked_sub(distance) else {
            return middle;
        };
        if x[below] != x[below + 1] {
            return below;
        }
    }
    middle
}

/// Points in order of x, and how many of them make a neighborhood.
struct Local<'a> {
    x: &'a [f64],
    y: &'a [f64],
    neighbors: usize,
}

impl Local<'_> {
    /// Value and slope at `vertex` of the parabola fitted to its neighborhood with tricube weights.
    ///
    /// Directions that the points do not determine are dropped (least norm). If no neighbor is nearer than the
    /// farthest one, all of them weigh the same.
    fn at(&self, vertex: f64) -> [f64; 2] {
        let mut distances: Vec<f64> = self.x.iter().map(|x| (x - vertex).abs()).collect();
        let (_, &mut radius, _) =
            distances.select_nth_unstable_by(self.neighbors - 1, f64::total_cmp);
        let mut columns: [Vec<f64>; TERMS] = Default::default();
        let mut response = Vec::new();
        let is_flat = self.x.iter().all(|x| (x - vertex).abs() >= radius);
        for (x, y) in self.x.iter().zip(self.y) {
            let step = x - vertex;
            let weight = if is_flat {
                f64::from(u8::from(step.abs() == radius))
            } else {
                tricube(step.abs() / radius)
            };
            if weight > 0.0 {
                let root = weight.sqrt();
                columns
                    .iter_mut()
                    .zip([root, root * step, root * step * step])
                    .for_each(|(c, v)| c.push(v));
                response.push(root * y);
            }
        }
        let [value, slope, _] = least_squares(columns, &response);
        [value, slope]
    }
}

fn tricube(ratio: f64) -> f64 {
    if ratio < 1.0 {
        (1.0 - ratio.powi(3)).powi(3)
    } else {
        0.0
    }
}

/// Least-norm solution, from the singular values of the equilibrated columns (one-sided Jacobi rotations).
fn least_squares(mut columns: [Vec<f64>; TERMS], response: &[f64]) -> [f64; TERMS] {
    let scale = columns.each_ref().map(|column| {
        Some(dot(column, column).sqrt())
            .filter(|&n| n > 0.0)
            .unwrap_or(1.0)
    });
    for (column, scale) in columns.iter_mut().zip(scale) {
        column.iter_mut().for_each(|value| *value /= scale);
    }
    let mut rotation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Three columns are orthogonal to rounding after about six sweeps.
    for (p, q) in [(0, 1), (0, 2), (1, 2)].repeat(12) {
        let Some((cos, sin)) = angle(&columns[p], &columns[q]) else {
            continue;
        };
        let (left, right) = columns.split_at_mut(q);
        rotate(&mut left[p], &mut right[0], cos, sin);
        let (left, right) = rotation.split_at_mut(q);
        rotate(&mut left[p], &mut right[0], cos, sin);
    }
    let squares = columns.each_ref().map(|column| dot(column, column));
    // In singular values, 100 times the relative rounding error.
    let tolerance = squares.into_iter().fold(0.0, f64::max) * (100.0 * f64::EPSILON).powi(2);
    let mut solution = [0.0; TERMS];
    for (j, square) in squares
        .into_iter()
        .enumerate()
        .filter(|&(_, square)| square > tolerance)
    {
        let amount = dot(&columns[j], response) / square;
        (0..TERMS).for_each(|i| solution[i] += rotation[j][i] * amount / scale[i]);
    }
    solution
}

/// Cosine and sine of the rotation that makes two columns orthogonal; none if they are.
fn angle(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let product = dot(a, b);
    let (aa, bb) = (dot(a, a), dot(b, b));
    if product.abs() <= f64::EPSILON * (aa * bb).sqrt() {
        return None;
    }
    let zeta = (bb - aa) / (2.0 * product);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cos = 1.0 / tangent.hypot(1.0);
    Some((cos, cos * tangent))
}

fn rotate(a: &mut [f64], b: &mut [f64], cos: f64, sin: f64) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The cubic between the two vertices around `point`.
fn interpolate(vertices: &[f64], fits: &[[f64; 2]], point: f64) -> f64 {
    let right = vertices
        .partition_point(|&vertex| vertex < point)
        .clamp(1, vertices.len() - 1);
    let width = vertices[right] - vertices[right - 1];
    let ([value_0, slope_0], [value_1, slope_1]) = (fits[right - 1], fits[right]);
    let t = (point - vertices[right - 1]) / width;
    let s = 1.0 - t;
    let values = s * s * (1.0 + 2.0 * t) * value_0 + t * t * (1.0 + 2.0 * s) * value_1;
    values + (t * s * s * slope_0 - t * t * s * slope_1) * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::golden;

    #[test]
    fn golden_preprocessing_interpolating_surface() {
        let expected = golden::Tensors::read("seurat_v3_loess.safetensors");
        let logs = |name: &str| {
            expected
                .f64(name)
                .into_iter()
                .map(f64::log10)
                .collect::<Vec<_>>()
        };
        let fitted = fit(&logs("mean"), &logs("variance_ddof1"), 0.3);
        let surface = expected.f64("fitted_log10_var_interpolate");
        let worst = fitted
            .iter()
            .zip(&surface)
            .map(|(a, e)| (a - e).abs())
            .fold(0.0, f64::max);
        // Rounding only; the direct surface would differ by 0.0097.
        assert!(worst < 1e-12, "{worst}");
    }

    #[test]
    fn parabolas_are_reproduced() {
        let x: Vec<f64> = (0..200).map(|i| f64::from(i * i % 97) / 10.0).collect();
        let y: Vec<f64> = x.iter().map(|x| 1.0 - 3.0 * x + 0.5 * x * x).collect();
        for (fitted, y) in fit(&x, &y, 0.3).iter().zip(&y) {
            assert!((fitted - y).abs() < 1e-9, "{fitted} is not {y}");
        }
    }

    #[test]
    fn few_or_equal_points_give_finite_values() {
        assert!(fit(&[], &[], 0.3).is_empty());
        assert_eq!(fit(&[2.0], &[5.0], 0.3), [5.0]);
        let equal = fit(&[1.0; 50], &(0..50).map(f64::from).collect::<Vec<_>>(), 0.3);
        assert!(
            equal.iter().all(|fitted| (fitted - 24.5).abs() < 1e-9),
            "{equal:?}"
        );
        for n in 2..60_u32 {
            for distinct in [1, 2, 3, 7, 1000] {
                let x: Vec<f64> = (0..n).map(|i| f64::from(i * 7 % n % distinct)).collect();
                let y: Vec<f64> = (0..n).map(|i| f64::from(i % 5)).collect();
                assert!(
                    fit(&x, &y, 0.3)
                        .iter()
                        .all(|fitted| fitted.is_finite() && fitted.abs() < 1e3)
                );
            }
        }
    }
}
