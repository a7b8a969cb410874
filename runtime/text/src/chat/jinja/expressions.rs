//! Tokens to expressions.

use std::sync::Arc;

use super::ast::{Argument, Comparison, Expr, Kind, Operator};
use super::lexer::Token;
use super::meter::Outcome;
use super::parser::Parser;

impl Parser<'_> {
    /// An expression with the conditional operator.
    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            while parser.take_name("if")? {
                let condition = parser.or()?;
                let other = if parser.take_name("else")? { Some(parser.expression()?) } else { None };
                value = Expr::new(Kind::If(Box::new((condition, value, other))))?;
            }
            Ok(value)
        })
    }

    /// Everything but the conditional operator.
    pub(super) fn or(&mut self) -> Outcome<Expr> {
        let mut left = self.and()?;
        while self.take_name("or")? {
            left = Expr::new(Kind::Or(Box::new((left, self.and()?))))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut left = self.not()?;
        while self.take_name("and")? {
            left = Expr::new(Kind::And(Box::new((left, self.not()?))))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.take_name("not")? {
            let value = self.nested(Self::not)?;
            return Expr::new(Kind::Not(Box::new(value)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let symbol = match &self.token {
                Token::Symbol(symbol) => *symbol,
                Token::Name(name) if name == "in" || name == "not" => "in",
                _ => break,
            };
            let comparison = match symbol {
                "==" => Comparison::Equal,
                "!=" => Comparison::NotEqual,
                "<" => Comparison::Less,
                "<=" => Comparison::LessEqual,
                ">" => Comparison::Greater,
                ">=" => Comparison::GreaterEqual,
                "in" if self.is_name("not") => {
                    self.advance()?;
                    if !self.is_name("in") {
                        return self.fail("not where in is expected behind it");
                    }
                    Comparison::NotIn
                }
                "in" => Comparison::In,
                _ => break,
            };
            self.advance()?;
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() { Ok(first) } else { Expr::new(Kind::Compare(Box::new(first), rest)) }
    }

    /// Operators of one rank, from left to right.
    fn chain(&mut self, operators: &[(&str, Operator)], next: fn(&mut Self) -> Outcome<Expr>) -> Outcome<Expr> {
        let mut left = next(self)?;
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.is(symbol)) {
            self.advance()?;
            left = Expr::new(Kind::Binary(*operator, Box::new((left, next(self)?))))?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Outcome<Expr> {
        self.chain(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        self.chain(&[("~", Operator::Concat)], Self::product)
    }

    fn product(&mut self) -> Outcome<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.chain(&operators, Self::power)
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.chain(&[("**", Operator::Power)], |parser| parser.unary(true))
    }

    fn unary(&mut self, filters: bool) -> Outcome<Expr> {
        let value = if self.take("-")? {
            let value = self.nested(|parser| parser.unary(false))?;
            Expr::new(Kind::Negate(Box::new(value)))?
        } else if self.take("+")? {
            let value = self.nested(|parser| parser.unary(false))?;
            Expr::new(Kind::Plus(Box::new(value)))?
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if filters { self.filters_and_tests(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let kind = match self.advance()? {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Kind::Bool(true),
                "false" | "False" => Kind::Bool(false),
                "none" | "None" => Kind::None,
                _ => Kind::Name(name.into()),
            },
            Token::Str(mut text) => {
                while let Token::Str(more) = &self.token {
                    text.push_str(more);
                    self.advance()?;
                }
                Kind::Str(text.into())
            }
            Token::Int(number) => Kind::Int(number),
            Token::Float(number) => Kind::Float(number),
            Token::Symbol("(") => return self.parenthesis(),
            Token::Symbol("[") => Kind::List(self.list("]")?.0),
            Token::Symbol("{") => Kind::Map(self.map()?),
            _ => return self.fail("a value is missing"),
        };
        Expr::new(kind)
    }

    fn parenthesis(&mut self) -> Outcome<Expr> {
        let (mut list, comma) = self.list(")")?;
        match list.pop() {
            Some(only) if list.is_empty() && !comma => Ok(only),
            last => {
                list.extend(last);
                Expr::new(Kind::Tuple(list))
            }
        }
    }

    /// Expressions up to a bracket, and whether there was a comma.
    fn list(&mut self, end: &str) -> Outcome<(Vec<Expr>, bool)> {
        let (mut list, mut comma) = (Vec::new(), false);
        while !self.is(end) {
            list.push(self.expression()?);
            if !self.take(",")? {
                break;
            }
            comma = true;
        }
        self.expect(end)?;
        Ok((list, comma))
    }

    fn map(&mut self) -> Outcome<Vec<(Expr, Expr)>> {
        let mut entries = Vec::new();
        while !self.is("}") {
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.take(",")? {
                break;
            }
        }
        self.expect("}")?;
        Ok(entries)
    }

    /// Attributes, items and calls after a value.
    fn postfix(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            let kind = if self.take(".")? {
                match self.token {
                    Token::Int(index) => {
                        self.advance()?;
                        Kind::Item(Box::new((value, Expr::new(Kind::Int(index))?)))
                    }
                    _ => Kind::Attribute(Box::new(value), self.name()?.into()),
                }
            } else if self.take("[")? {
                self.subscript(value)?
            } else if self.take("(")? {
                Kind::Call(Box::new((value, self.arguments()?)))
            } else {
                return Ok(value);
            };
            value = Expr::new(kind)?;
        }
    }

    fn subscript(&mut self, value: Expr) -> Outcome<Kind> {
        let mut parts = [None, None, None];
        let mut at = 0;
        while !self.is("]") {
            if self.take(":")? {
                at += 1;
            } else if at < 3 && parts[at].is_none() {
                parts[at] = Some(self.expression()?);
            } else {
                break;
            }
        }
        self.expect("]")?;
        match (at, parts) {
            (0, [Some(index), None, None]) => Ok(Kind::Item(Box::new((value, index)))),
            (1 | 2, parts) => Ok(Kind::Slice(Box::new((value, parts)))),
            _ => self.fail("an index is missing, or there are too many"),
        }
    }

    /// Arguments up to the closing bracket.
    pub(super) fn arguments(&mut self) -> Outcome<Vec<Argument>> {
        let mut out = Vec::new();
        while !self.is(")") {
            out.push(if self.take("**")? {
                Argument::SpreadMap(self.expression()?)
            } else if self.take("*")? {
                Argument::Spread(self.expression()?)
            } else {
                match (self.expression()?, self.is("=")) {
                    (Expr { kind: Kind::Name(name), .. }, true) => {
                        self.advance()?;
                        Argument::Keyword(name, self.expression()?)
                    }
                    (value, _) => Argument::Positional(value),
                }
            });
            if !self.take(",")? {
                break;
            }
        }
        self.expect(")")?;
        Ok(out)
    }

    fn filters_and_tests(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            value = if self.take("|")? {
                let name = self.name()?;
                let arguments = if self.take("(")? { self.arguments()? } else { Vec::new() };
                Expr::new(Kind::Filter(Box::new((value, name, arguments))))?
            } else if self.take_name("is")? {
                let negated = self.take_name("not")?;
                let test = self.test(value)?;
                if negated { Expr::new(Kind::Not(Box::new(test)))? } else { test }
            } else if self.is("(") {
                self.postfix(value)?
            } else {
                return Ok(value);
            };
        }
    }

    fn test(&mut self, value: Expr) -> Outcome<Expr> {
        let name = self.name()?;
        // One argument may stand without brackets.
        let bare = match &self.token {
            Token::Name(word) => !["else", "or", "and", "if", "is", "in", "not", "recursive"].contains(&word.as_str()),
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Symbol(symbol) => ["[", "{"].contains(symbol),
            _ => false,
        };
        let arguments = if self.take("(")? {
            self.arguments()?
        } else if bare {
            let value = self.primary()?;
            vec![Argument::Positional(self.postfix(value)?)]
        } else {
            Vec::new()
        };
        Expr::new(Kind::Test(Box::new((value, name, arguments))))
    }
}

/// What an expression is called in a message.
pub(super) fn described(expr: &Expr) -> String {
    let name = |name: &Arc<str>| name.chars().take(40).collect::<String>();
    match &expr.kind {
        Kind::Name(found) => name(found),
        Kind::Attribute(inner, attribute) => match &inner.kind {
            Kind::Name(_) | Kind::Attribute(..) => format!("{}.{}", described(inner), name(attribute)),
            _ => format!(".{}", name(attribute)),
        },
        Kind::Item(_) => "an item".into(),
        _ => "the value".into(),
    }
}
