//! A page as a browser reads it, as far as a report goes.

use std::collections::{BTreeMap, BTreeSet};

/// Elements that have no end.
const SHAPES: [&str; 8] = ["rect", "line", "polygon", "circle", "path", "text", "ellipse", "polyline"];

#[derive(Debug)]
pub(crate) struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Element {
    pub(crate) fn text(&self, figure: &str) -> &str {
        &self.attributes[&format!("data-{figure}")]
    }

    pub(crate) fn number(&self, figure: &str) -> u64 {
        self.text(figure).parse().unwrap_or_else(|_| panic!("{figure}: {}", self.text(figure)))
    }
}

#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    elements: Vec<Element>,
    words: String,
}

impl Page {
    /// Reads a page; one that is not well formed is a panic.
    pub(crate) fn read(text: &str) -> Self {
        let mut rest = text.strip_prefix("<!DOCTYPE html>").expect("a document type");
        let (mut open, mut elements, mut words) = (Vec::new(), Vec::new(), String::new());
        while let Some(at) = rest.find('<') {
            words.push_str(&plain(&rest[..at]));
            let end = at + rest[at..].find('>').expect("the end of a tag");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            assert!(!tag.contains('<'), "a tag in a tag: {tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed in another order, before {:.80}", rest);
                continue;
            }
            let is_closed = tag.ends_with('/');
            let element = element(tag.trim_end_matches('/'));
            if !is_closed {
                open.push(element.name.clone());
            }
            elements.push(element);
        }
        assert!(open.is_empty(), "never closed: {open:?}");
        assert_eq!(rest.trim(), "");
        Self { text: text.to_owned(), elements, words }
    }

    /// What holds of every page.
    pub(crate) fn assert_sound(&self) {
        let ids: Vec<&String> =
            self.elements.iter().filter_map(|element| element.attributes.get("id")).collect();
        let unique: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len(), "{ids:?}");
        let referred = self.elements.iter().filter_map(|element| element.attributes.get("aria-labelledby"));
        referred.for_each(|id| assert!(unique.contains(&id), "{id} is nowhere"));
        let pictures: Vec<_> =
            self.elements.iter().filter(|element| element.attributes.contains_key("data-picture")).collect();
        assert_eq!(pictures.len(), 7);
        for picture in pictures {
            assert_eq!(picture.attributes["role"], "img");
            assert!(!picture.attributes["aria-label"].is_empty());
        }
        assert_eq!(self.elements.iter().filter(|element| element.name == "table").count(), 8);
        for never in ["http", "<script", "@import", "javascript:", "NaN"] {
            assert!(!self.text.contains(never), "{never}");
        }
        for element in &self.elements {
            let asks = |name: &String| name == "src" || name.ends_with("href") || name.starts_with("on");
            assert!(!element.attributes.keys().any(asks), "{element:?}");
            for number in ["x", "y", "width", "height", "x1", "x2", "y1", "y2"] {
                let Some(value) = element.attributes.get(number).filter(|_| element.name != "svg") else {
                    continue;
                };
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{number}={value}"));
                assert!((0.0..=1000.0).contains(&value), "{element:?}");
            }
        }
        assert!(self.shapes() <= 2000, "{}", self.shapes());
        let no_shape_ends_outside =
            self.elements.iter().filter(|element| element.name == "rect").all(|rect| {
                let number = |name| {
                    rect.attributes.get(name).map_or(0.0, |value: &String| value.parse::<f64>().unwrap())
                };
                number("x") + number("width") <= 880.5
            });
        assert!(no_shape_ends_outside);
    }

    pub(crate) fn picture(&self, name: &str) -> &Element {
        let is_it = |element: &&Element| element.attributes.get("data-picture").is_some_and(|is| is == name);
        self.elements.iter().find(is_it).unwrap_or_else(|| panic!("no picture {name}"))
    }

    pub(crate) fn has_element(&self, name: &str) -> bool {
        self.elements.iter().any(|element| element.name == name)
    }

    pub(crate) fn shapes(&self) -> usize {
        self.elements.iter().filter(|element| SHAPES.contains(&&*element.name)).count()
    }

    /// What is read, without the markup.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }
}

fn element(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{tag}");
    let mut attributes = BTreeMap::new();
    while !rest.trim().is_empty() {
        let (name, after) =
            rest.trim_start().split_once("=\"").unwrap_or_else(|| panic!("no value in {tag}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name} in {tag}");
        let (value, after) = after.split_once('"').expect("the end of a value");
        assert!(attributes.insert(name.to_owned(), plain(value)).is_none(), "{name} twice in {tag}");
        rest = after;
    }
    Element { name: name.to_owned(), attributes }
}

/// Text with its references read; a bare `&` is a panic.
fn plain(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(';').unwrap_or_else(|| panic!("a bare & before {piece:.40}"));
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            other => panic!("&{other};"),
        });
        out.push_str(rest);
    }
    out
}

#[test]
#[should_panic(expected = "closed in another order")]
fn a_page_whose_elements_overlap_is_not_well_formed() {
    Page::read("<!DOCTYPE html><p><b>x</p></b>");
}

#[test]
#[should_panic(expected = "a bare &")]
fn a_page_with_a_bare_ampersand_is_not_well_formed() {
    Page::read("<!DOCTYPE html><p>a & b</p>");
}
