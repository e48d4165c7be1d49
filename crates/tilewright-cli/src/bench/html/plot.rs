//! The roofline: operations a byte against operations a second, both on log scales.

use super::text;
use crate::bench::report::{Report, Row};
use std::ops::Range;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 300.0;
/// Of the plot inside, from the left, right, top and bottom.
const MARGINS: [f64; 4] = [44.0, 18.0, 44.0, 34.0];

/// Where numbers lie in the picture; both ranges in powers of ten.
struct Axes {
    x: Range<f64>,
    y: Range<f64>,
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        let [left, right, ..] = MARGINS;
        left + (value.log10() - self.x.start) / (self.x.end - self.x.start) * (WIDTH - left - right)
    }

    fn y(&self, value: f64) -> f64 {
        let [.., top, bottom] = MARGINS;
        HEIGHT - bottom - (value.log10() - self.y.start) / (self.y.end - self.y.start) * (HEIGHT - top - bottom)
    }

    fn line(&self, class: &str, [from, to]: [(f64, f64); 2]) -> String {
        let [(x1, y1), (x2, y2)] = [from, to].map(|(x, y)| (self.x(x), self.y(y)));
        format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
    }
}

/// Operations a byte.
fn intensity(row: &Row) -> f64 {
    row.flops as f64 / row.bytes as f64
}

/// The section, empty where nothing was measured or no ceiling is known.
pub fn roofline(report: &Report) -> String {
    let Some(ceilings) = &report.ceilings else { return String::new() };
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.flops > 0 && row.bytes > 0).collect();
    if rows.is_empty() {
        return String::new();
    }
    let read = ceilings.read_gigabytes_per_second;
    let roofs: Vec<(String, f64)> = std::iter::once(("f32 multiply-add".to_string(), ceilings.fma_gflops))
        .chain(ceilings.bf16_gflops.map(|peak| ("bf16 products".to_string(), peak)))
        .collect();
    let highest = roofs.iter().map(|roof| roof.1).chain(rows.iter().map(|row| rate(row, row.fastest_side().1)));
    let highest = highest.fold(0.0, f64::max);
    let lowest = rows.iter().flat_map(|row| [rate(row, row.times.seconds), read * intensity(row)]);
    let lowest =
        lowest.chain(rows.iter().filter_map(|row| Some(rate(row, row.best_peer()?.1)))).fold(highest, f64::min);
    let bound = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(x), b.max(x)));
        least.log10().floor()..(most.log10() + 0.1).ceil()
    };
    let corner = highest / read;
    let axes = Axes {
        x: bound(&mut rows.iter().map(|row| intensity(row)).chain([corner])),
        y: bound(&mut [lowest, highest].into_iter()),
    };

    let mut inside = grid(&axes);
    let (first, last) = (10f64.powf(axes.x.start), 10f64.powf(axes.x.end));
    let from = first.max(10f64.powf(axes.y.start) / read);
    inside.push_str(&axes.line("roof", [(from, from * read), (corner, highest.min(corner * read))]));
    for (at, (name, peak)) in roofs.iter().enumerate() {
        inside.push_str(&axes.line("roof", [((peak / read).max(first), *peak), (last, *peak)]));
        let (x, y) = (axes.x(last) - 4.0, axes.y(*peak) + if at == 0 { 11.0 } else { -4.0 });
        inside.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{name} {peak:.0}</text>\n"));
    }
    // Ours over the peers.
    inside.extend(rows.iter().filter_map(|row| {
        let (peer, seconds, _) = row.best_peer()?;
        let (x, y) = (axes.x(intensity(row)), axes.y(rate(row, seconds)));
        let title = text(&format!("{}: {peer}, {:.1} GFLOP/s", row.case, rate(row, seconds)));
        Some(format!("<circle class=\"peer\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{title}</title></circle>\n"))
    }));
    inside.extend(rows.iter().map(|row| {
        let (x, y) = (axes.x(intensity(row)), axes.y(rate(row, row.times.seconds)));
        let title = text(&format!("{}: {:.1} GFLOP/s", row.case, row.gflops));
        mark(row.dtype, x, y, &title)
    }));
    format!(
        "<h2>Roofline</h2>\n<p class=\"faint\">Filled: ours. Open: the best peer. The slope is memory read at {read:.1} GB/s; what \
         caches hold lies above it.</p>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Roofline\">\n{inside}{}</svg>\n",
        legend()
    )
}

fn rate(row: &Row, seconds: f64) -> f64 {
    row.flops as f64 / seconds / 1e9
}

/// Lines at the powers of ten, with their numbers.
fn grid(axes: &Axes) -> String {
    let powers = |range: &Range<f64>| (range.start as i32)..=(range.end as i32);
    let (left, right) = (10f64.powf(axes.x.start), 10f64.powf(axes.x.end));
    let (low, high) = (10f64.powf(axes.y.start), 10f64.powf(axes.y.end));
    let number =
        |power: i32| if power < 0 { format!("{}", 10f64.powi(power)) } else { format!("{:.0}", 10f64.powi(power)) };
    let mut grid = String::new();
    for power in powers(&axes.x) {
        let at = 10f64.powi(power);
        grid.push_str(&axes.line("grid", [(at, low), (at, high)]));
        let (x, y) = (axes.x(at), HEIGHT - 20.0);
        grid.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>\n", number(power)));
    }
    for power in powers(&axes.y) {
        let at = 10f64.powi(power);
        grid.push_str(&axes.line("grid", [(left, at), (right, at)]));
        let (x, y) = (MARGINS[0] - 4.0, axes.y(at) + 3.0);
        grid.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>\n", number(power)));
    }
    let (x, y) = ((WIDTH + MARGINS[0]) / 2.0, HEIGHT - 6.0);
    grid.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">operations a byte</text>\n"));
    grid.push_str("<text x=\"6\" y=\"36\">GFLOP/s</text>\n");
    grid
}

/// A type by colour and by form.
fn mark(dtype: &str, x: f64, y: f64, title: &str) -> String {
    const SIZE: f64 = 3.6;
    let title = format!("<title>{title}</title>");
    match dtype {
        "bf16" => {
            let (left, top, side) = (x - SIZE, y - SIZE, 2.0 * SIZE);
            format!(
                "<rect class=\"bf16\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side}\" height=\"{side}\">{title}</rect>\n"
            )
        }
        "f16" => {
            let (left, right, top, bottom) = (x - SIZE, x + SIZE, y - SIZE, y + SIZE);
            let points = format!("{left:.1},{bottom:.1} {right:.1},{bottom:.1} {x:.1},{top:.1}");
            format!("<polygon class=\"f16\" points=\"{points}\">{title}</polygon>\n")
        }
        _ => format!("<circle class=\"f32\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{SIZE}\">{title}</circle>\n"),
    }
}

fn legend() -> String {
    let mut legend = String::new();
    for (at, dtype) in ["f32", "f16", "bf16"].into_iter().enumerate() {
        let x = MARGINS[0] + 12.0 + 60.0 * at as f64;
        legend.push_str(&mark(dtype, x, 15.0, dtype));
        legend.push_str(&format!("<text x=\"{:.1}\" y=\"18.5\">{dtype}</text>\n", x + 8.0));
    }
    legend
}
