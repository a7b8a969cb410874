//! Tokens to statements.

use std::sync::Arc;

use super::ast::{Argument, Expr, Filters, For, Kind, Macro, Node, Stmt, Target};
use super::lexer::{Lexer, Token};
use super::meter::{Fault, Outcome};

/// Nested statements and brackets.
const NESTING: usize = 100;

/// Reads a template.
///
/// # Errors
/// What is wrong with it, with the line.
pub(super) fn parse(source: &str) -> Outcome<Vec<Node>> {
    let mut lexer = Lexer::new(source);
    let token = lexer.next()?;
    let mut parser = Parser { line: lexer.line(), lexer, token, depth: 0 };
    let (body, _) = parser.body(&[])?;
    Ok(body)
}

pub(super) struct Parser<'s> {
    lexer: Lexer<'s>,
    pub(super) token: Token,
    /// Line of `token`.
    pub(super) line: u32,
    depth: usize,
}

/// A token for a message.
fn shown(token: &Token) -> String {
    match token {
        Token::Text(_) => "text".into(),
        Token::Block => "{%".into(),
        Token::BlockEnd => "%}".into(),
        Token::Print => "{{".into(),
        Token::PrintEnd => "}}".into(),
        Token::Name(name) => name.chars().take(40).collect(),
        Token::Str(_) => "a string".into(),
        Token::Int(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Symbol(symbol) => (*symbol).into(),
        Token::End => "the end".into(),
    }
}

impl Parser<'_> {
    pub(super) fn fail<T>(&self, message: impl std::fmt::Display) -> Outcome<T> {
        Err(Fault::unsupported(format!("syntax error: {message}")).at(self.line))
    }

    fn unexpected<T>(&self, wanted: &str) -> Outcome<T> {
        self.fail(format_args!("{} where {wanted} is expected", shown(&self.token)))
    }

    /// Goes to the next token and returns the one before.
    pub(super) fn advance(&mut self) -> Outcome<Token> {
        let next = self.lexer.next()?;
        self.line = self.lexer.line();
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth == NESTING {
            return self.fail(format_args!("more than {NESTING} levels"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    pub(super) fn is(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(found) if found == symbol)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(&self.token, Token::Name(found) if found == name)
    }

    /// Takes a symbol if it is next.
    pub(super) fn take(&mut self, symbol: &str) -> Outcome<bool> {
        let found = self.is(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes a word if it is next.
    pub(super) fn take_name(&mut self, name: &str) -> Outcome<bool> {
        let found = self.is_name(name);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Outcome<()> {
        if self.take(symbol)? { Ok(()) } else { self.unexpected(symbol) }
    }

    pub(super) fn name(&mut self) -> Outcome<String> {
        match &self.token {
            Token::Name(_) => match self.advance()? {
                Token::Name(name) => Ok(name),
                _ => self.unexpected("a name"),
            },
            _ => self.unexpected("a name"),
        }
    }

    fn end_of_block(&mut self) -> Outcome<()> {
        match self.token {
            Token::BlockEnd => self.advance().map(|_| ()),
            _ => self.unexpected("%}"),
        }
    }

    /// Statements up to one of the tags `until`, which is taken without its end; or up to the end of the source.
    fn body(&mut self, until: &[&str]) -> Outcome<(Vec<Node>, String)> {
        let mut out = Vec::new();
        loop {
            let line = self.line;
            let kind = match self.advance()? {
                Token::Text(text) => Stmt::Raw(text),
                Token::Print => {
                    let value = self.tuple(true)?;
                    match self.token {
                        Token::PrintEnd => self.advance()?,
                        _ => return self.unexpected("}}"),
                    };
                    Stmt::Emit(value)
                }
                Token::Block => {
                    let name = self.name()?;
                    if until.contains(&name.as_str()) {
                        return Ok((out, name));
                    }
                    self.nested(|parser| parser.statement(&name)).map_err(|fault| fault.at(line))?
                }
                Token::End if until.is_empty() => return Ok((out, String::new())),
                _ => return self.fail(format_args!("{} is missing", until.join(" or "))),
            };
            out.push(Node { line, kind });
        }
    }

    /// The end of an opening tag, its body, and its closing tag.
    fn block(&mut self, end: &str) -> Outcome<Vec<Node>> {
        self.end_of_block()?;
        let (body, _) = self.body(&[end])?;
        if end == "endblock" && matches!(self.token, Token::Name(_)) {
            self.advance()?;
        }
        self.end_of_block()?;
        Ok(body)
    }

    fn statement(&mut self, name: &str) -> Outcome<Stmt> {
        let kind = match name {
            "for" => return self.for_loop(),
            "if" => return self.condition(),
            "set" => return self.set(),
            "with" => return self.with(),
            "macro" => {
                let name = self.name()?;
                return Ok(Stmt::Macro(Arc::new(self.macro_named(&name, "endmacro")?)));
            }
            "call" => return self.call_block(),
            "filter" => {
                let filters = self.filters()?;
                return Ok(Stmt::Filter(filters, self.block("endfilter")?));
            }
            "generation" => return Ok(Stmt::Generation(self.block("endgeneration")?)),
            "block" => {
                self.name()?;
                return Ok(Stmt::Body(self.block("endblock")?));
            }
            "do" => Stmt::Do(self.tuple(true)?),
            "break" => Stmt::Break,
            "continue" => Stmt::Continue,
            "include" | "import" | "from" | "extends" => {
                return self.fail(format_args!("{name}: there are no other templates here"));
            }
            _ => return self.fail(format_args!("unknown tag {:?}", name.chars().take(40).collect::<String>())),
        };
        self.end_of_block()?;
        Ok(kind)
    }

    fn for_loop(&mut self) -> Outcome<Stmt> {
        let target = self.target(false)?;
        if !self.take_name("in")? {
            return self.unexpected("in");
        }
        let items = self.tuple(false)?;
        let condition = if self.take_name("if")? { Some(self.expression()?) } else { None };
        let recursive = self.take_name("recursive")?;
        self.end_of_block()?;
        let (body, end) = self.body(&["else", "endfor"])?;
        let otherwise = if end == "else" { self.block("endfor")? } else { Vec::new() };
        if end == "endfor" {
            self.end_of_block()?;
        }
        Ok(Stmt::For(Arc::new(For { target, items, condition, recursive, body, otherwise })))
    }

    fn condition(&mut self) -> Outcome<Stmt> {
        let mut branches = Vec::new();
        let mut condition = Some(self.expression()?);
        loop {
            self.end_of_block()?;
            let last = condition.is_none();
            let (body, end) = self.body(if last { &["endif"] } else { &["elif", "else", "endif"] })?;
            branches.push((condition, body));
            match end.as_str() {
                "elif" => condition = Some(self.expression()?),
                "else" => condition = None,
                _ => break,
            }
        }
        self.end_of_block()?;
        Ok(Stmt::If(branches))
    }

    fn set(&mut self) -> Outcome<Stmt> {
        let target = self.target(true)?;
        if self.take("=")? {
            let value = self.tuple(true)?;
            self.end_of_block()?;
            return Ok(Stmt::Set(target, value));
        }
        let filters = if self.take("|")? { self.filters()? } else { Vec::new() };
        Ok(Stmt::Capture(target, filters, self.block("endset")?))
    }

    fn with(&mut self) -> Outcome<Stmt> {
        let mut values = Vec::new();
        while self.token != Token::BlockEnd {
            let target = self.target(false)?;
            self.expect("=")?;
            values.push((target, self.expression()?));
            if !self.take(",")? {
                break;
            }
        }
        Ok(Stmt::With(values, self.block("endwith")?))
    }

    /// The parameters and the body of a macro, if it has parameters.
    fn macro_named(&mut self, name: &str, end: &str) -> Outcome<Macro> {
        let mut parameters = Vec::new();
        if self.take("(")? {
            while !self.is(")") {
                let name = self.name()?.into();
                let default = if self.take("=")? { Some(self.expression()?) } else { None };
                parameters.push((name, default));
                if !self.take(",")? {
                    break;
                }
            }
            self.expect(")")?;
        }
        Ok(Macro { name: name.into(), parameters, body: if end.is_empty() { Vec::new() } else { self.block(end)? } })
    }

    fn call_block(&mut self) -> Outcome<Stmt> {
        let head = self.macro_named("caller", "")?;
        let call = self.expression()?;
        if !matches!(call.kind, Kind::Call(_)) {
            return self.fail("call needs a call");
        }
        let body = self.block("endcall")?;
        Ok(Stmt::Call(Arc::new(Macro { body, ..head }), call))
    }

    /// Filters with their arguments, `|` between them.
    fn filters(&mut self) -> Outcome<Filters> {
        let mut out = Vec::new();
        loop {
            let name = self.name()?;
            let arguments: Vec<Argument> = if self.take("(")? { self.arguments()? } else { Vec::new() };
            out.push((name, arguments));
            if !self.take("|")? {
                return Ok(out);
            }
        }
    }

    /// Names that are assigned to; with `attributes` also `ns.name`.
    fn target(&mut self, attributes: bool) -> Outcome<Target> {
        let mut targets = Vec::new();
        let mut tuple = false;
        loop {
            if self.take("(")? {
                let inner = self.nested(|parser| parser.target(attributes))?;
                targets.push(inner);
                self.expect(")")?;
            } else {
                let name: Arc<str> = self.name()?.into();
                targets.push(match attributes && self.take(".")? {
                    true => Target::Attribute(name, self.name()?.into()),
                    false => Target::Name(name),
                });
            }
            if !self.take(",")? {
                break;
            }
            tuple = true;
            if self.is_name("in") || self.is("=") || self.is(")") {
                break;
            }
        }
        match targets.pop() {
            Some(only) if targets.is_empty() && !tuple => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    /// One expression, or several with commas as a tuple. Without `ternary`, an `if` is left for the loop.
    fn tuple(&mut self, ternary: bool) -> Outcome<Expr> {
        let first = if ternary { self.expression()? } else { self.or()? };
        if !self.is(",") {
            return Ok(first);
        }
        let mut list = vec![first];
        while self.take(",")? {
            if matches!(self.token, Token::BlockEnd | Token::PrintEnd) {
                break;
            }
            list.push(if ternary { self.expression()? } else { self.or()? });
        }
        Expr::new(Kind::Tuple(list))
    }
}
