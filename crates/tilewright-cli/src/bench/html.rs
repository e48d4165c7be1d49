//! A report as one page that needs nothing else: no script, no other file, no server.

mod plot;

use super::report::{Outcome, PeerRow, Report, Row, not_counted};
use super::stats::{Ratio, Times};
use crate::output;

/// The page.
pub fn page(report: &Report) -> String {
    let cases: String = report.rows.iter().map(case).collect();
    let bars = match report.ceilings {
        Some(_) => "Bars are speed, in percent of what this machine allows for the case. Longer is faster.",
        None => "Bars are speed beside the fastest. Longer is faster.",
    };
    let style = include_str!("html/style.css");
    let (head, plot, table) = (head(report), plot::roofline(report), table(report));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>tile bench</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n{head}{plot}<h2>Cases</h2>\n<p class=\"faint\">{bars}</p>\n\
         <div class=\"cases\">\n{cases}</div>\n{table}</body>\n</html>\n"
    )
}

/// Text from elsewhere, as text.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn head(report: &Report) -> String {
    let Report { device, instructions, threads, .. } = report;
    let mut head = format!("<h1>tile bench</h1>\n<p>{device}, {}, {threads} threads</p>\n", text(instructions));
    if let Some(all) = &report.ceilings {
        let bf16 = all.bf16_gflops.map(|peak| format!(", bf16 products {peak:.0} GFLOP/s")).unwrap_or_default();
        head.push_str(&format!(
            "<p>Ceilings of this run: f32 multiply-add {:.0} GFLOP/s{bf16}, memory read {:.1} GB/s, copied {:.1} GB/s</p>\n",
            all.fma_gflops, all.read_gigabytes_per_second, all.copy_gigabytes_per_second
        ));
    }
    let versions = report.peers.iter().map(|(peer, version)| format!("{}: {}", text(peer), text(version)));
    head.extend(versions.map(|line| format!("<p class=\"faint\">{line}</p>\n")));
    head.extend(report.notes.iter().map(|note| format!("<p class=\"bad\">{}</p>\n", text(note))));
    head
}

/// Ours and each peer as bars.
fn case(row: &Row) -> String {
    let (_, fastest) = row.fastest_side();
    // What a full bar takes.
    let least = row.percent.map_or(fastest, |percent| row.times.seconds * percent / 100.0);
    let percent = row.percent.map_or(String::new(), |percent| format!("{percent:.0} %"));
    let mut sides = side("side ours", "tilewright", &row.times, least, &percent);
    for PeerRow { peer, outcome } in &row.against {
        sides.push_str(&match outcome {
            Outcome::Measured { way, times, ratio: Ratio { ratio, .. }, outside, .. } => {
                let name = if way.is_empty() { peer.clone() } else { format!("{peer} ({way})") };
                let why = outside.map_or(String::new(), |error| format!(", {}", not_counted(error)));
                side("side", &name, times, least, &format!("{ratio:.2}x as long{why}"))
            }
            Outcome::Missing { reason } => {
                format!("<div class=\"side faint\">{} {}</div>\n", text(peer), text(reason))
            }
        });
    }
    let wrong = if row.check.holds { "" } else { "<p class=\"bad\">outside of the error bound</p>" };
    format!("<div class=\"case\"><h3>{}</h3>{wrong}\n{sides}</div>\n", text(&row.case))
}

fn side(class: &str, name: &str, times: &Times, least: f64, said: &str) -> String {
    let [median, fastest, slowest] = [times.seconds, times.fastest, times.slowest].map(output::duration);
    let percent = (100.0 * least / times.seconds).min(100.0);
    format!(
        "<div class=\"{class}\"><div class=\"words\"><span>{}</span><span>{median} <span class=\"faint\">[{fastest}, \
         {slowest}]</span> {said}</span></div><div class=\"track\"><div class=\"bar\" style=\"width:{percent:.1}%\"></div>\
         </div></div>\n",
        text(name)
    )
}

fn table(report: &Report) -> String {
    let columns = ["case", "median", "GFLOP/s", "GB/s", "of ceiling", "limit", "best peer", "took", "error", "bound"];
    let columns: String = columns.iter().map(|column| format!("<th>{column}</th>")).collect();
    let rows: String = report.rows.iter().map(table_row).collect();
    format!(
        "<h2>Figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    )
}

fn table_row(row: &Row) -> String {
    let (peer, ratio) = match row.best_peer() {
        Some((peer, _, ratio)) => (peer.to_string(), format!("{:.2}x as long", ratio.ratio)),
        None => ("-".to_string(), "-".to_string()),
    };
    let cells = [
        row.case.clone(),
        output::duration(row.times.seconds),
        format!("{:.1}", row.gflops),
        format!("{:.1}", row.gigabytes_per_second),
        row.percent.map_or("-".to_string(), |percent| format!("{percent:.1} %")),
        row.roofline.map_or("-", |roof| roof.limit.name()).to_string(),
        peer,
        ratio,
        format!("{:.1e}", row.check.error),
        format!("{:.1e}", row.check.bound),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", text(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_makes_no_element() {
        assert_eq!(text("<script src=\"x\">&"), "&lt;script src=&quot;x&quot;&gt;&amp;");
    }
}
