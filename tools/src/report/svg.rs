//! Shapes and text as markup: everything that comes from a store goes through one escape.

use std::fmt::{self, Display, Write};

use esker::dump::one_line;

/// Text of a store as text of a page: control characters and what turns the direction of a line are spelled
/// out, and nothing in it is markup. Where all can be printed, a command is what a shell takes, backslash for backslash.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in one_line(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What a page may not hold.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

/// Text of at most so many characters; more ends in an ellipsis.
pub(super) fn short(text: &str, characters: usize) -> String {
    let mut out: String = text.chars().take(characters).collect();
    if out.len() < text.len() {
        out.pop();
        out.push('…');
    }
    out
}

/// A number with thin spaces between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that leaves up to four digits.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && number >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"B");
    if unit == 0 {
        return format!("{number}\u{a0}B");
    }
    // In whole numbers: the same digits on every machine.
    let tenths = u128::from(number) * 10 / (1 << (10 * unit));
    match tenths {
        0..1000 => format!("{}.{}\u{a0}{name}", tenths / 10, tenths % 10),
        _ => format!("{}\u{a0}{name}", grouped(u64::try_from(tenths / 10).unwrap_or(u64::MAX))),
    }
}

/// A length in the picture, in tenths of its unit: whole numbers give the same picture everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenths(pub(super) u64);

impl Tenths {
    pub(super) const fn of(units: u64) -> Self {
        Self(units * 10)
    }

    /// So much of a width as `part` is of `whole`.
    pub(super) fn share(self, part: u64, whole: u64) -> Self {
        let share = u128::from(self.0) * u128::from(part.min(whole)) / u128::from(whole.max(1));
        Self(u64::try_from(share).unwrap_or(self.0))
    }
}

impl std::ops::Add for Tenths {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Tenths {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}", self.0 / 10),
            tenth => write!(f, "{}.{tenth}", self.0 / 10),
        }
    }
}

/// A box in a picture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    pub(super) x: Tenths,
    pub(super) y: Tenths,
    pub(super) width: Tenths,
    pub(super) height: Tenths,
}

/// How wide every picture is.
pub(super) const WIDTH: u64 = 880;

/// Where a label stands to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A picture on its way.
#[derive(Debug)]
pub(super) struct Svg {
    out: String,
}

impl Svg {
    /// Begins a picture: its name, what is said of it to who does not see it, and its figures.
    pub(super) fn new(name: &str, label: &str, height: u64, figures: &[(&str, String)]) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<div class=\"picture\"><svg id=\"picture-{name}\" role=\"img\" aria-label=\"{}\" \
             viewBox=\"0 0 {WIDTH} {height}\" data-picture=\"{name}\"",
            text(label)
        );
        for (figure, value) in figures {
            let _ = write!(out, " data-{figure}=\"{}\"", text(value));
        }
        out.push_str(">\n");
        Self { out }
    }

    /// A filled box with what it says when it is pointed at.
    pub(super) fn area(&mut self, class: &str, area: Area, title: &str, data: &[(&str, String)]) {
        let Area { x, y, width, height } = area;
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\""
        );
        for (name, value) in data {
            let _ = write!(self.out, " data-{name}=\"{}\"", text(value));
        }
        if title.is_empty() {
            self.out.push_str("/>\n");
        } else {
            let _ = writeln!(self.out, "><title>{}</title></rect>", text(title));
        }
    }

    pub(super) fn line(&mut self, class: &str, from: (Tenths, Tenths), to: (Tenths, Tenths), title: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = write!(self.out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"");
        if title.is_empty() {
            self.out.push_str("/>\n");
        } else {
            let _ = writeln!(self.out, "><title>{}</title></line>", text(title));
        }
    }

    /// A closed shape over these points.
    pub(super) fn polygon(&mut self, class: &str, points: &[(Tenths, Tenths)], title: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let (points, title) = (points.join(" "), text(title));
        let _ = writeln!(
            self.out,
            "<polygon class=\"{class}\" points=\"{points}\"><title>{title}</title></polygon>"
        );
    }

    pub(super) fn label(&mut self, class: &str, at: (Tenths, Tenths), anchor: Anchor, words: &str) {
        let ((x, y), anchor, words) = (at, anchor.word(), text(words));
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ =
            writeln!(self.out, "<text{class} x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{words}</text>");
    }

    /// A label of which the whole text is shown when it is pointed at.
    pub(super) fn cut_label(
        &mut self,
        class: &str,
        at: (Tenths, Tenths),
        anchor: Anchor,
        (words, characters): (&str, usize),
    ) {
        let cut = short(&one_line(words), characters);
        let ((x, y), anchor, whole) = (at, anchor.word(), text(words));
        // What is cut is escaped by now, and only its markup is left to be.
        let cut = cut.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.out,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{cut}<title>{whole}</title></text>"
        );
    }

    pub(super) fn end(mut self) -> String {
        self.out.push_str("</svg></div>\n");
        self.out
    }
}

/// A table in a box of its own, that scrolls by itself where it is too wide. The cells are text, not markup.
pub(super) fn table(name: &str, caption: &str, heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<div class=\"table\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table id=\"table-{name}\">\n\
         <caption>{0}</caption>\n<thead><tr>",
        text(caption)
    );
    let is_number = |at: usize| {
        !rows.is_empty() && rows.iter().all(|row| row.get(at).is_none_or(|cell| looks_like_number(cell)))
    };
    let numbers: Vec<bool> = (0..heading.len()).map(is_number).collect();
    let class = |at: usize| if numbers.get(at) == Some(&true) { " class=\"n\"" } else { "" };
    for (at, name) in heading.iter().enumerate() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(at), text(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(at), text(cell));
        }
        out.push_str("</tr>\n");
    }
    if rows.is_empty() {
        let _ = writeln!(out, "<tr><td colspan=\"{}\">none</td></tr>", heading.len());
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn looks_like_number(cell: &str) -> bool {
    cell == "-" || cell == "none" || cell.starts_with(|first: char| first.is_ascii_digit())
}

/// What the colours and patterns mean.
pub(super) fn legend(entries: &[(&str, &str)]) -> String {
    let mut out = "<ul class=\"legend\">".to_owned();
    for (class, words) in entries {
        let _ = write!(
            out,
            "<li><svg class=\"key\" viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"1\" \
             y=\"1\" width=\"12\" height=\"12\"/></svg>{}</li>",
            text(words)
        );
    }
    out.push_str("</ul>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(
            text("<b a='1' c=\"2\">&\n\u{202e}"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\\n\\u202e"
        );
        assert_eq!(text(r"verify 'a\b'"), r"verify &#39;a\b&#39;", "as a shell takes it");
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((bytes(1023), bytes(1536)), ("1023\u{a0}B".into(), "1.5\u{a0}KiB".into()));
        assert_eq!(bytes(u64::MAX), "16\u{202f}383\u{a0}PiB");
        assert_eq!(Tenths::of(10).share(1, 3).to_string(), "3.3");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(short("abcd", 4), "abcd");
    }
}
