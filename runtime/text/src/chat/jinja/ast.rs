//! The syntax tree of a template.

use std::sync::Arc;

use super::meter::{Fault, Outcome};

/// Deepest expression: evaluating and dropping one recurses.
const DEPTH: u16 = 120;

/// A statement and its line.
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) kind: Stmt,
}

/// Statements.
pub(super) enum Stmt {
    /// Text between tags.
    Raw(String),
    /// `{{ .. }}`
    Emit(Expr),
    /// Conditions with their bodies; the last one may have none.
    If(Vec<(Option<Expr>, Vec<Node>)>),
    For(Arc<For>),
    /// `{% set a, b = .. %}`
    Set(Target, Expr),
    /// `{% set a %}..{% endset %}`, with filters.
    Capture(Target, Filters, Vec<Node>),
    With(Vec<(Target, Expr)>, Vec<Node>),
    Filter(Filters, Vec<Node>),
    Macro(Arc<Macro>),
    /// `{% call(..) f(..) %}`: what `caller` is, and the call.
    Call(Arc<Macro>, Expr),
    /// `{% block %}`: a body as it is.
    Body(Vec<Node>),
    /// `{% generation %}`: what the assistant writes.
    Generation(Vec<Node>),
    Do(Expr),
    Break,
    Continue,
}

/// What is assigned to.
pub(super) enum Target {
    Name(Arc<str>),
    /// `ns.name`
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

/// Filters in turn: name and arguments.
pub(super) type Filters = Vec<(String, Vec<Argument>)>;

/// A loop.
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// A macro, or the body of a call block.
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub(super) body: Vec<Node>,
}

/// An argument of a call.
pub(super) enum Argument {
    Positional(Expr),
    Keyword(Arc<str>, Expr),
    /// `*list`
    Spread(Expr),
    /// `**map`
    SpreadMap(Expr),
}

impl Argument {
    fn depth(&self) -> u16 {
        let (Argument::Positional(e) | Argument::Keyword(_, e) | Argument::Spread(e) | Argument::SpreadMap(e)) = self;
        e.depth
    }
}

/// Operators on two values that are always both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concat,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

/// An expression.
pub(super) struct Expr {
    pub(super) kind: Kind,
    depth: u16,
}

/// Expressions.
pub(super) enum Kind {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<str>),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Plus(Box<Expr>),
    Binary(Operator, Box<(Expr, Expr)>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    /// Condition, value, other value.
    If(Box<(Expr, Expr, Option<Expr>)>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<(Expr, Expr)>),
    Slice(Box<(Expr, [Option<Expr>; 3])>),
    /// Without a value, the filter of a block.
    Filter(Box<(Expr, String, Vec<Argument>)>),
    Test(Box<(Expr, String, Vec<Argument>)>),
    Call(Box<(Expr, Vec<Argument>)>),
}

impl Expr {
    /// An expression around others.
    ///
    /// # Errors
    /// If it is nested too deep.
    pub(super) fn new(kind: Kind) -> Outcome<Expr> {
        let of = |list: &[Expr]| list.iter().map(|e| e.depth).max().unwrap_or(0);
        let of_arguments = |list: &[Argument]| list.iter().map(Argument::depth).max().unwrap_or(0);
        let inner = match &kind {
            Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) | Kind::Name(_) => 0,
            Kind::List(list) | Kind::Tuple(list) => of(list),
            Kind::Map(entries) => entries.iter().map(|(k, v)| k.depth.max(v.depth)).max().unwrap_or(0),
            Kind::Not(e) | Kind::Negate(e) | Kind::Plus(e) | Kind::Attribute(e, _) => e.depth,
            Kind::Binary(_, two) | Kind::And(two) | Kind::Or(two) | Kind::Item(two) => two.0.depth.max(two.1.depth),
            Kind::Compare(first, rest) => rest.iter().map(|(_, e)| e.depth).max().unwrap_or(0).max(first.depth),
            Kind::If(three) => three.0.depth.max(three.1.depth).max(three.2.as_ref().map_or(0, |e| e.depth)),
            Kind::Slice(parts) => parts.1.iter().flatten().map(|e| e.depth).max().unwrap_or(0).max(parts.0.depth),
            Kind::Filter(parts) | Kind::Test(parts) => parts.0.depth.max(of_arguments(&parts.2)),
            Kind::Call(parts) => parts.0.depth.max(of_arguments(&parts.1)),
        };
        match inner < DEPTH {
            true => Ok(Expr { kind, depth: inner + 1 }),
            false => Err(Fault::unsupported(format!("syntax error: an expression of more than {DEPTH} levels"))),
        }
    }
}
