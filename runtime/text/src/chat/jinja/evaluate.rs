//! Expressions: what a template computes.

use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::{Argument, Expr, Kind};
use super::expressions::described;
use super::meter::{Fault, Outcome};
use super::run::Renderer;
use super::value::{Items, Loop, Map, Value};
use super::{display, functions, methods, operators};

impl Renderer {
    /// The value of an expression.
    pub(super) fn evaluate(&mut self, expr: &Expr) -> Outcome<Value> {
        let _level = self.meter.enter()?;
        match &expr.kind {
            Kind::None => Ok(Value::None),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Int(value) => Ok(Value::Int(i128::from(*value))),
            Kind::Float(value) => Ok(Value::Float(*value)),
            Kind::Str(text) => Value::text(text, &self.meter),
            Kind::Name(name) => match self.lookup(name)? {
                Value::Turns(turns) => turns.whole(&self.meter),
                value => Ok(value),
            },
            Kind::List(list) => self.collect(list)?.list(),
            Kind::Tuple(list) => self.collect(list)?.tuple(),
            Kind::Map(entries) => self.dictionary(entries),
            Kind::Not(inner) => Ok(Value::Bool(!self.evaluate(inner)?.is_true())),
            Kind::Negate(inner) => operators::negate(&self.evaluate(inner)?),
            Kind::Plus(inner) => self.evaluate(inner),
            Kind::Binary(operator, two) => {
                let (left, right) = (self.evaluate(&two.0)?, self.evaluate(&two.1)?);
                self.defined(&two.0, &left, *operator)?;
                self.defined(&two.1, &right, *operator)?;
                operators::binary(*operator, &left, &right, &self.meter)
            }
            Kind::Compare(first, rest) => self.comparisons(first, rest),
            Kind::And(two) => {
                let left = self.evaluate(&two.0)?;
                if left.is_true() { self.evaluate(&two.1) } else { Ok(left) }
            }
            Kind::Or(two) => {
                let left = self.evaluate(&two.0)?;
                if left.is_true() { Ok(left) } else { self.evaluate(&two.1) }
            }
            Kind::If(three) => match (self.evaluate(&three.0)?.is_true(), &three.2) {
                (true, _) => self.evaluate(&three.1),
                (false, Some(other)) => self.evaluate(other),
                (false, None) => Ok(Value::Undefined),
            },
            Kind::Attribute(inner, name) => {
                let value = self.evaluate(inner)?;
                self.attribute(inner, &value, name)
            }
            Kind::Item(two) => self.item(&two.0, &two.1),
            Kind::Slice(parts) => self.slice(&parts.0, &parts.1),
            Kind::Filter(parts) => {
                if let ("length", Some(turns)) = (parts.1.as_str(), self.turns(&parts.0)?) {
                    return turns.length().map(|length| Value::Int(length as i128));
                }
                let value = self.evaluate(&parts.0)?;
                let arguments = self.arguments(&parts.1, &parts.2)?;
                self.filter(&parts.1, value, arguments)
            }
            Kind::Test(parts) => {
                let value = self.evaluate(&parts.0)?;
                let arguments = self.arguments(&parts.1, &parts.2)?;
                self.test(&parts.1, &value, arguments).map(Value::Bool)
            }
            Kind::Call(_) => self.call(expr, None),
        }
    }

    /// The value of a variable; undefined if there is none.
    pub(super) fn lookup(&self, name: &Arc<str>) -> Outcome<Value> {
        for scope in self.locals.iter().rev().chain([&self.root]) {
            self.meter.step(1 + scope.variables.len() / 8)?;
            if let Some(value) = scope.get(name) {
                return Ok(value.clone());
            }
        }
        Ok(if functions::NAMES.contains(&&**name) { Value::Function(name.clone()) } else { Value::Undefined })
    }

    /// Names what is undefined, where an operator needs a value.
    fn defined(&self, expr: &Expr, value: &Value, operator: super::ast::Operator) -> Outcome<()> {
        match value {
            Value::Undefined if operator != super::ast::Operator::Concat => {
                Err(Fault::new(format!("{} is undefined", described(expr))))
            }
            _ => Ok(()),
        }
    }

    fn collect(&mut self, list: &[Expr]) -> Outcome<Items> {
        let mut out = Items::new(&self.meter)?;
        for expr in list {
            out.push(self.evaluate(expr)?)?;
        }
        Ok(out)
    }

    fn dictionary(&mut self, entries: &[(Expr, Expr)]) -> Outcome<Value> {
        let mut out = Map::new(&self.meter)?;
        for (key, value) in entries {
            let key = self.evaluate(key)?;
            out.insert(key, self.evaluate(value)?)?;
        }
        Ok(Value::Map(Rc::new(out)))
    }

    fn comparisons(&mut self, first: &Expr, rest: &[(super::ast::Comparison, Expr)]) -> Outcome<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, expr) in rest {
            let right = self.evaluate(expr)?;
            if !operators::compare(*comparison, &left, &right, &self.meter)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn item(&mut self, inner: &Expr, key: &Expr) -> Outcome<Value> {
        if let Some(turns) = self.turns(inner)? {
            return turns.item(&self.evaluate(key)?);
        }
        let value = self.evaluate(inner)?;
        let key = self.evaluate(key)?;
        match (&value, &key) {
            (Value::Undefined, _) => Err(Fault::new(format!("{} is undefined", described(inner)))),
            (Value::Loop(state), Value::Text(name)) => self.loop_attribute(state, name.as_str()),
            _ => operators::item(&value, &key, &self.meter),
        }
    }

    fn slice(&mut self, inner: &Expr, parts: &[Option<Expr>; 3]) -> Outcome<Value> {
        let value = self.evaluate(inner)?;
        let mut numbers = [Value::None, Value::None, Value::None];
        for (number, part) in numbers.iter_mut().zip(parts) {
            if let Some(part) = part {
                *number = self.evaluate(part)?;
            }
        }
        operators::slice(&value, &numbers, &self.meter)
    }

    fn attribute(&mut self, inner: &Expr, value: &Value, name: &str) -> Outcome<Value> {
        match value {
            Value::Undefined => Err(Fault::new(format!("{} is undefined", described(inner)))),
            Value::Map(map) => Ok(map.get_str(name)?.unwrap_or(Value::Undefined)),
            Value::Namespace(namespace) => Ok(namespace.get(name).unwrap_or(Value::Undefined)),
            Value::Loop(state) => self.loop_attribute(state, name),
            Value::Macro(found) if name == "name" => Value::text(&found.code.name, &self.meter),
            _ => Ok(Value::Undefined),
        }
    }

    fn loop_attribute(&mut self, state: &Loop, name: &str) -> Outcome<Value> {
        let index = state.index.get();
        let length = || state.turns.as_ref().map_or(Ok(state.items.items.len()), |turns| turns.length());
        let int = |number: usize| Ok(Value::Int(number as i128));
        let at = |place: Option<usize>| place.and_then(|place| state.items.items.get(place)).cloned();
        match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(length()? - index),
            "revindex0" => int(length()? - index - 1),
            "first" => Ok(Value::Bool(index == 0)),
            "last" => match &state.turns {
                Some(turns) => turns.ends(index).map(Value::Bool),
                None => Ok(Value::Bool(index + 1 == length()?)),
            },
            "length" => int(length()?),
            "depth" => int(state.depth + 1),
            "depth0" => int(state.depth),
            "previtem" => Ok(at(index.checked_sub(1)).unwrap_or_default()),
            "nextitem" => match &state.turns {
                Some(turns) => turns.after(index),
                None => Ok(at(Some(index + 1)).unwrap_or_default()),
            },
            _ => Ok(Value::Undefined),
        }
    }

    /// The values of arguments for what is called `name`.
    pub(super) fn arguments(&mut self, name: &str, arguments: &[Argument]) -> Outcome<Arguments> {
        let mut out = Arguments::new(name, &self.meter)?;
        for argument in arguments {
            match argument {
                Argument::Positional(expr) => out.push(self.evaluate(expr)?)?,
                Argument::Keyword(name, expr) => out.push_named(name.clone(), self.evaluate(expr)?)?,
                Argument::Spread(expr) => {
                    let items = self.evaluate(expr)?.items(&self.meter)?;
                    items.items.iter().try_for_each(|item| out.push(item.clone()))?;
                }
                Argument::SpreadMap(expr) => {
                    let Value::Map(map) = self.evaluate(expr)? else {
                        return Err(Fault::new("** needs a dictionary"));
                    };
                    for (key, value) in &map.entries {
                        let key = display::text(key, &self.meter)?;
                        functions::untouched(&key)?;
                        out.push_named(key.as_str().into(), value.clone())?;
                    }
                }
            }
        }
        Ok(out)
    }

    /// Calls a function, a macro or a method; `caller` is the body of a call block.
    pub(super) fn call(&mut self, expr: &Expr, caller: Option<Value>) -> Outcome<Value> {
        let Kind::Call(parts) = &expr.kind else { return Err(Fault::new("no call")) };
        let (callee, arguments) = (&parts.0, &parts.1);
        let (object, function) = match &callee.kind {
            Kind::Attribute(inner, name) => {
                let object = self.evaluate(inner)?;
                let function = self.attribute(inner, &object, name)?;
                (Some((object, name)), function)
            }
            _ => (None, self.evaluate(callee)?),
        };
        let name = match &callee.kind {
            Kind::Name(name) | Kind::Attribute(_, name) => name.clone(),
            _ => "a call".into(),
        };
        let mut arguments = self.arguments(&name, arguments)?;
        if let Some(caller) = caller {
            arguments.push_named("caller".into(), caller)?;
        }
        match (function, object) {
            (Value::Macro(found), _) => self.call_macro(&found, arguments),
            (Value::Function(name), _) => self.function(&name, arguments),
            (Value::Loop(state), None) => self.recurse(&state, arguments),
            (_, Some((Value::Loop(state), name))) => self.loop_method(&state, name, arguments),
            (_, Some((object, name))) => methods::call(&object, name, arguments, &self.meter),
            (Value::Undefined, None) => Err(Fault::unsupported(format!("unknown function {}", described(callee)))),
            (other, None) => Err(Fault::new(format!("a {} cannot be called", other.kind()))),
        }
    }

    /// `loop(..)` in a recursive loop.
    fn recurse(&mut self, state: &Rc<Loop>, mut arguments: Arguments) -> Outcome<Value> {
        if !state.statement.recursive {
            return Err(Fault::new("the loop is not recursive"));
        }
        let items = arguments.required("items")?;
        arguments.end()?;
        let (text, ()) =
            self.capture(|renderer| renderer.for_loop(&state.statement, &items, state.depth.saturating_add(1)))?;
        Ok(Value::Text(text))
    }

    fn loop_method(&mut self, state: &Rc<Loop>, name: &str, mut arguments: Arguments) -> Outcome<Value> {
        let values = arguments.rest();
        arguments.end()?;
        match name {
            "cycle" if !values.is_empty() => Ok(values[state.index.get() % values.len()].clone()),
            "changed" => {
                let mut out = super::text::Builder::new(&self.meter)?;
                for value in &values {
                    display::repr(value, &mut out)?;
                    out.push_str(",")?;
                }
                let now = out.finish();
                let before = state.seen.replace(Some(now.clone()));
                Ok(Value::Bool(before.is_none_or(|before| before.as_str() != now.as_str())))
            }
            _ => Err(Fault::unsupported(format!("a loop has no method {name}"))),
        }
    }
}
