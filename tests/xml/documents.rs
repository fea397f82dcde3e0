//! Streams made from a list of choices: valid ones, and ones with a few things broken.

use std::fmt::Write;

/// Choices, taken one after the other; 0 when there are no more, so that a shorter list makes a simpler stream.
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn new(choices: &'a [u8]) -> Self {
        Self(choices)
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let choice = if bound > 256 {
            usize::from(self.byte()) << 8 | usize::from(self.byte())
        } else {
            self.byte().into()
        };
        choice % bound
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn char(&mut self) -> char {
        let bound = self.of(&[0x80, 0x800, 0x3000, 0x10000, 0x11_0000]);
        let code = (self.below(256) << 16 | self.below(0x10000)) % bound;
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{FFFD}')
    }
}

const STREAMS: &str = "xmlns:stream='http://etherx.jabber.org/streams'";
const DECLARATIONS: &[&str] =
    &["", "<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding='utf-8' standalone='yes' ?>\n", " "];
const STANZAS: &[&str] = &["message", "presence", "iq"];
const LOCALS: &[&str] =
    &["a", "body", "x", "_-1.y", "\u{e9}t\u{e9}", "\u{5b57}", "stream", "message", "a\u{b7}\u{300}"];
const PREFIXES: &[&str] = &["x", "y", "stream", "db", "\u{e9}", "xmlx"];
const NAMESPACES: &[&str] = &[
    "urn:x",
    "urn:y",
    "jabber:server",
    "jabber:server:dialback",
    "http://a.test/?b&amp;c",
    "urn:&#x78;",
    "urn:\u{e9}",
];
const ATTRIBUTES: &[&str] = &["a", "b", "from", "to", "id", "type", "xml:lang", "\u{e9}", "version"];
const VALUES: &[&str] = &[
    "",
    "b.test",
    "u@a.test/r",
    "&amp;&#x41;&apos;",
    ">]]>",
    "\u{1F600}\u{e9}",
    " \t\r\n",
    "en",
    "http://etherx.jabber.org/streams",
];
const TEXTS: &[&str] = &[
    "",
    "hi",
    "&lt;&#10;",
    "]]&gt;",
    "] ]>",
    "<![CDATA[]]>",
    "<![CDATA[<&]]]]>",
    "<![CDATA[ ]>]] >]]>",
    "\u{1F600}",
    "\u{e9}",
    "\r\n\t ",
    ">",
    "\"'",
    "&#1114111;&#x0010FFFF;",
    "\u{FFFD}\u{FEFF}\u{7f}\u{85}",
];
const SPACES: &[&str] = &[" ", " ", "  ", "\n", "\t\r\n"];
const SNIPPETS: &[&str] = &[
    "<",
    ">",
    "/",
    "&",
    ";",
    "'",
    "\"",
    "=",
    ":",
    "]",
    "]]>",
    "<!",
    "<!--",
    "-->",
    "<![CDATA[",
    "<?xml version='1.0'?>",
    "<?x?>",
    "<!DOCTYPE x>",
    "&#0;",
    "&#x1;",
    "&#xD800;",
    "&#xFFFE;",
    "&#x110000;",
    "&#65;",
    "&nbsp;",
    "&amp",
    "&#x41",
    " a='1'",
    " a='1'b='2'",
    " a",
    " x:a=''",
    " y:a=''",
    " xmlns:x='urn:x'",
    " xmlns:x=''",
    " xmlns:y='urn:x'",
    " xmlns=''",
    " xmlns='jabber:server'",
    " xmlns='jabber:client'",
    " xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    " xmlns:z='http://www.w3.org/XML/1998/namespace'",
    " xmlns:xmlns='urn:x'",
    " xmlns='http://www.w3.org/2000/xmlns/'",
    " xmlns:x='urn: x'",
    " xmlns:x='urn:|x'",
    " xmlns:x='urn:&#10;x'",
    " xmlns:x='urn:x&#x7c;'",
    "<a>",
    "</a>",
    "<a/>",
    "<x:a/>",
    "<db:result/>",
    "<stream:x/>",
    "<:a/>",
    "<a:/>",
    "<a:b:c/>",
    "<xml:a/>",
    "<xmlns:a/>",
    "<-a/>",
    "<a\u{b7}/>",
    "</stream:stream>",
    "<message>",
    "</message>",
    "\0",
    "\u{1}",
    "\u{c}",
    "\u{1b}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{FFFE}",
    "\u{FFFF}",
    "\u{1FFFE}",
    "\u{FEFF}",
];

/// A stream with these children.
pub(crate) fn stream<'a>(source: &mut Source<'_>, children: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = header(source).into_bytes();
    for child in children {
        stream.extend_from_slice(source.of(&["", "", "\n", " \t"]).as_bytes());
        stream.extend_from_slice(child);
    }
    stream.extend_from_slice(source.of(&["", "</stream:stream>", "\n</stream:stream >\n"]).as_bytes());
    stream
}

/// A stream with this child.
pub(crate) fn around(child: &str) -> Vec<u8> {
    let mut stream = header(&mut Source::new(&[]));
    stream.push_str(child);
    stream.into_bytes()
}

fn header(source: &mut Source<'_>) -> String {
    let declaration = source.of(DECLARATIONS);
    let version = source.of(&["", " version='1.0'", " version = \"1.0\" x:y='' xmlns:x='urn:x'"]);
    format!(
        "{declaration}<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' {STREAMS} \
         from='a.test'{version}>"
    )
}

/// A stream in which up to four things are broken.
pub(crate) fn broken_stream(source: &mut Source<'_>) -> Vec<u8> {
    let children: Vec<Vec<u8>> = (0..1 + source.below(3))
        .map(|_| {
            let child = first_level_child(source).into_bytes();
            let faults = source.below(4);
            broken(source, child, faults)
        })
        .collect();
    let stream = stream(source, children.iter().map(Vec::as_slice));
    let faults = usize::from(source.below(8) == 1);
    broken(source, stream, faults)
}

fn broken(source: &mut Source<'_>, mut text: Vec<u8>, faults: usize) -> Vec<u8> {
    for _ in 0..faults {
        let at = source.below(text.len() + 1);
        let end = text.len().min(at + source.below(12));
        match source.below(6) {
            0 | 1 => drop(text.splice(at..at, source.of(SNIPPETS).bytes())),
            2 => drop(text.splice(at..at, source.char().to_string().bytes())),
            3 => drop(text.splice(at..end, [])),
            4 => {
                let copy = text[at..end].to_vec();
                let to = source.below(text.len() + 1);
                drop(text.splice(to..to, copy));
            }
            _ => drop(text.splice(at..end.min(at + 1), [source.byte()])),
        }
    }
    text
}

/// A stanza or a negotiation element, valid whatever the choices.
pub(crate) fn first_level_child(source: &mut Source<'_>) -> String {
    let mut out = String::new();
    match source.below(8) {
        0 => out.push_str("<db:result from='a.test' to='b.test'>key</db:result>"),
        1 => {
            let features = "<stream:features><x xmlns='urn:x' stream:a='1' db:a='2'/></stream:features>";
            out.push_str(features);
        }
        2 => element(source, &mut out, "auth", &mut Vec::new(), 0),
        _ => {
            let name = source.of(STANZAS);
            element(source, &mut out, name, &mut Vec::new(), 0);
        }
    }
    out
}

/// What a raw namespace name stands for, as far as [`NAMESPACES`] goes.
fn meaning(raw: &str) -> String {
    raw.replace("&#x78;", "x").replace("&amp;", "&")
}

type Scope = Vec<(&'static str, &'static str)>;

fn element(source: &mut Source<'_>, out: &mut String, local: &str, scope: &mut Scope, depth: usize) {
    let outer = scope.len();
    let mut attributes = String::new();
    let mut used: Vec<String> = Vec::new();
    for _ in 0..source.below(3) {
        let (prefix, name) = (source.of(PREFIXES), source.of(NAMESPACES));
        if !scope[outer..].iter().any(|(other, _)| *other == prefix) {
            scope.push((prefix, name));
            let key = format!("xmlns:{prefix}");
            attribute(source, &mut attributes, &key, name);
        }
    }
    if source.below(4) == 1 {
        let name = if depth == 0 { "jabber:server" } else { source.of(NAMESPACES) };
        attribute(source, &mut attributes, "xmlns", name);
    }
    for _ in 0..source.below(5) {
        let in_scope = effective(scope);
        let (key, expanded) = if !in_scope.is_empty() && source.below(3) == 1 {
            let (prefix, name) = source.of(&in_scope);
            let local = source.of(LOCALS);
            (format!("{prefix}:{local}"), format!("{} {local}", meaning(name)))
        } else {
            let key = source.of(ATTRIBUTES);
            (key.to_owned(), key.to_owned())
        };
        if !used.contains(&expanded) {
            used.push(expanded);
            let value = source.of(VALUES);
            attribute(source, &mut attributes, &key, value);
        }
    }
    let in_scope = effective(scope);
    let name = match in_scope.is_empty() || depth == 0 || source.below(2) == 0 {
        true => local.to_owned(),
        false => format!("{}:{local}", source.of(&in_scope).0),
    };
    let space = source.of(&["", "", " ", "\r\n"]);
    let _ = write!(out, "<{name}{attributes}{space}");
    if source.below(4) == 1 {
        out.push_str("/>");
    } else {
        out.push('>');
        for _ in 0..source.below(4) {
            if depth < 6 && source.below(2) == 1 {
                let local = source.of(LOCALS);
                element(source, out, local, scope, depth + 1);
            } else {
                out.push_str(source.of(TEXTS));
            }
        }
        let space = source.of(&["", "", " ", "\r\n"]);
        let _ = write!(out, "</{name}{space}>");
    }
    scope.truncate(outer);
}

/// Declarations that aren't hidden by inner ones.
fn effective(scope: &Scope) -> Scope {
    let visible = |at: usize| !scope[at + 1..].iter().any(|(other, _)| *other == scope[at].0);
    (0..scope.len()).filter(|&at| visible(at)).map(|at| scope[at]).collect()
}

fn attribute(source: &mut Source<'_>, out: &mut String, key: &str, value: &str) {
    let (space, equals) = (source.of(SPACES), source.of(&["=", "=", " =", "= \n"]));
    let quote = source.of(&['\'', '"']);
    let _ = write!(out, "{space}{key}{equals}{quote}{value}{quote}");
}
