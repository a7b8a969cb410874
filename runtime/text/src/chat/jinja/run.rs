//! Statements: what a template writes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::{Expr, Filters, For, Macro, Node, Stmt, Target};
use super::display;
use super::meter::{Fault, Held, Meter, Outcome};
use super::text::{Builder, Text};
use super::turns::ahead;
use super::value::{self, Items, List, Loop, Namespace, Value};

/// Where to continue.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// Variables of a loop, a block or a macro.
pub(super) struct Scope {
    pub(super) variables: Vec<(Arc<str>, Value)>,
    held: Held,
}

impl Scope {
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Scope> {
        Ok(Scope { variables: Vec::new(), held: meter.hold(96)? })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.variables.iter().find(|(found, _)| &**found == name).map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, name: Arc<str>, value: Value) -> Outcome<()> {
        self.held.meter().step(1 + self.variables.len() / 8)?;
        match self.variables.iter_mut().find(|(found, _)| *found == name) {
            Some((_, slot)) => *slot = value,
            None => {
                self.held.grow(2 * size_of::<(Arc<str>, Value)>())?;
                self.variables.push((name, value));
            }
        }
        Ok(())
    }
}

/// A rendering under way.
pub(super) struct Renderer {
    pub(super) meter: Rc<Meter>,
    /// Variables of the whole template; what is given to it comes first.
    pub(super) root: Scope,
    pub(super) locals: Vec<Scope>,
    /// The output, and the captures inside it.
    pub(super) outputs: Vec<Builder>,
    pub(super) output_limit: usize,
    /// All of them: they may hold each other.
    pub(super) namespaces: Vec<Rc<Namespace>>,
    /// Bytes of the output that are inside `{% generation %}`.
    pub(super) generated: Vec<std::ops::Range<usize>>,
    /// What time it is, in seconds since 1970, if not what the system says.
    pub(super) clock: Option<u64>,
    /// Whether a variable may hold turns.
    pub(super) open: bool,
}

impl Drop for Renderer {
    fn drop(&mut self) {
        self.namespaces.iter().for_each(|namespace| namespace.clear());
    }
}

impl Renderer {
    /// Writes statements.
    pub(super) fn body(&mut self, nodes: &[Node]) -> Outcome<Flow> {
        let _level = self.meter.enter()?;
        for node in nodes {
            let flow = self.statement(node).map_err(|fault| fault.at(node.line))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    pub(super) fn statement(&mut self, node: &Node) -> Outcome<Flow> {
        self.meter.step(1)?;
        match &node.kind {
            Stmt::Raw(text) => self.emit(|out| out.push_str(text))?,
            Stmt::Emit(expr) => {
                let value = self.evaluate(expr)?;
                self.emit(|out| display::write(&value, out))?;
            }
            Stmt::If(branches) => {
                if let Some(body) = self.chosen(branches)? {
                    return self.body(body);
                }
            }
            Stmt::For(statement) => {
                let items = self.evaluate(&statement.items)?;
                self.for_loop(statement, &items, 0)?;
            }
            Stmt::Set(target, expr) => {
                let value = match (target, self.turns(expr)?) {
                    (Target::Name(_), Some(turns)) => Value::Turns(turns),
                    _ => self.evaluate(expr)?,
                };
                self.assign(target, value)?;
            }
            Stmt::Capture(target, filters, body) => {
                let (text, flow) = self.capture(|renderer| renderer.body(body))?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.assign(target, value)?;
                return Ok(flow);
            }
            Stmt::With(values, body) => return self.with(values, body),
            Stmt::Filter(filters, body) => {
                let (text, flow) = self.capture(|renderer| renderer.body(body))?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.emit(|out| display::write(&value, out))?;
                return Ok(flow);
            }
            Stmt::Macro(code) => {
                let found = self.macro_value(code)?;
                self.set(code.name.clone(), found)?;
            }
            Stmt::Call(code, call) => {
                let caller = self.macro_value(code)?;
                let value = self.call(call, Some(caller))?;
                self.emit(|out| display::write(&value, out))?;
            }
            Stmt::Body(body) => return self.body(body),
            Stmt::Generation(body) => {
                let start = self.generation();
                let flow = self.body(body)?;
                self.generation_end(start)?;
                return Ok(flow);
            }
            Stmt::Do(expr) => drop(self.evaluate(expr)?),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Where `{% generation %}` begins, if that is in the output and not in something that is kept for later.
    pub(super) fn generation(&self) -> Option<usize> {
        (self.outputs.len() == 1).then(|| self.outputs[0].len())
    }

    /// Notes the bytes since `start` as generated.
    pub(super) fn generation_end(&mut self, start: Option<usize>) -> Outcome<()> {
        self.meter.step(1)?;
        if let Some((start, end)) = start.zip(self.outputs.first().map(Builder::len)).filter(|(start, end)| start < end)
        {
            self.generated.push(start..end);
        }
        Ok(())
    }

    /// The body whose condition holds.
    pub(super) fn chosen<'n>(&mut self, branches: &'n [(Option<Expr>, Vec<Node>)]) -> Outcome<Option<&'n [Node]>> {
        for (condition, body) in branches {
            let chosen = match condition {
                Some(condition) => self.evaluate(condition)?.is_true(),
                None => true,
            };
            if chosen {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// Writes to the output or the innermost capture.
    fn emit(&mut self, write: impl FnOnce(&mut Builder) -> Outcome<()>) -> Outcome<()> {
        let outermost = self.outputs.len() == 1;
        let Some(out) = self.outputs.last_mut() else { return Err(Fault::new("no output")) };
        write(out)?;
        if outermost && out.len() > self.output_limit {
            return Err(Fault::new(format!("writes more than {} bytes for these messages", self.output_limit)));
        }
        Ok(())
    }

    /// What `write` writes, as a text.
    pub(super) fn capture<T>(&mut self, write: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<(Text, T)> {
        self.outputs.push(Builder::new(&self.meter)?);
        let result = write(self);
        let out = self.outputs.pop().ok_or_else(|| Fault::new("no output"))?;
        Ok((out.finish(), result?))
    }

    fn filtered(&mut self, mut value: Value, filters: &Filters) -> Outcome<Value> {
        for (name, arguments) in filters {
            let arguments = self.arguments(name, arguments)?;
            value = self.filter(name, value, arguments)?;
        }
        Ok(value)
    }

    /// Runs `run` with variables of its own.
    pub(super) fn scoped<T>(&mut self, scope: Scope, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.locals.push(scope);
        let result = run(self);
        self.locals.pop();
        result
    }

    fn with(&mut self, values: &[(Target, Expr)], body: &[Node]) -> Outcome<Flow> {
        // All values are those outside: none sees a variable that is set beside it.
        let mut outside = Items::new(&self.meter)?;
        for (_, expr) in values {
            outside.push(self.evaluate(expr)?)?;
        }
        let outside = outside.list()?.items(&self.meter)?;
        let scope = Scope::new(&self.meter)?;
        self.scoped(scope, |renderer| {
            for ((target, _), value) in values.iter().zip(&outside.items) {
                renderer.assign(target, value.clone())?;
            }
            renderer.body(body)
        })
    }

    /// Sets a variable of the innermost scope.
    fn set(&mut self, name: Arc<str>, value: Value) -> Outcome<()> {
        self.locals.last_mut().unwrap_or(&mut self.root).set(name, value)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(name.clone(), value),
            Target::Attribute(name, attribute) => match self.lookup(name)? {
                // A loop that is kept would tell its state of now for another turn.
                Value::Namespace(_) if self.open && matches!(value, Value::Loop(_) | Value::Macro(_)) => Err(ahead()),
                Value::Namespace(namespace) => namespace.set(attribute.clone(), value),
                other => Err(Fault::new(format!("only namespaces can be assigned to, not a {}", other.kind()))),
            },
            Target::Tuple(targets) => {
                let items = value.items(&self.meter)?;
                if items.items.len() != targets.len() {
                    let (found, wanted) = (items.items.len(), targets.len());
                    return Err(Fault::new(format!("{found} values cannot be unpacked to {wanted} names")));
                }
                targets.iter().zip(&items.items).try_for_each(|(target, value)| self.assign(target, value.clone()))
            }
        }
    }

    /// Runs a loop over the items that its condition lets through.
    pub(super) fn for_loop(&mut self, statement: &Arc<For>, items: &Value, depth: usize) -> Outcome<()> {
        let mut items = items.items(&self.meter)?;
        if let Some(condition) = &statement.condition {
            let mut chosen = Items::new(&self.meter)?;
            for item in &items.items {
                let scope = Scope::new(&self.meter)?;
                let holds = self.scoped(scope, |renderer| {
                    renderer.assign(&statement.target, item.clone())?;
                    renderer.evaluate(condition)
                })?;
                if holds.is_true() {
                    chosen.push(item.clone())?;
                }
            }
            items = chosen.list()?.items(&self.meter)?;
        }
        if items.items.is_empty() {
            let scope = Scope::new(&self.meter)?;
            return self.scoped(scope, |renderer| renderer.body(&statement.otherwise)).map(|_| ());
        }
        self.iterate(statement, items, depth)
    }

    fn iterate(&mut self, statement: &Arc<For>, items: Rc<List>, depth: usize) -> Outcome<()> {
        let state = Rc::new(Loop {
            items,
            turns: None,
            index: Cell::new(0),
            depth,
            seen: RefCell::default(),
            statement: statement.clone(),
        });
        for i in 0..state.items.items.len() {
            state.index.set(i);
            if self.turn(statement, &state)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// The body of a loop for the item that `state` is at.
    pub(super) fn turn(&mut self, statement: &For, state: &Rc<Loop>) -> Outcome<Flow> {
        let item = state.items.items.get(state.index.get()).cloned().unwrap_or_default();
        let scope = Scope::new(&self.meter)?;
        self.scoped(scope, |renderer| {
            renderer.set("loop".into(), Value::Loop(state.clone()))?;
            renderer.assign(&statement.target, item)?;
            renderer.body(&statement.body)
        })
    }

    /// A macro with copies of the variables around it; those of the whole template are looked up when it runs.
    fn macro_value(&mut self, code: &Arc<Macro>) -> Outcome<Value> {
        let mut captured: Vec<(Arc<str>, Value)> = Vec::new();
        let count: usize = self.locals.iter().map(|scope| scope.variables.len()).sum();
        self.meter.step(count)?;
        let _held = self.meter.hold(count * size_of::<(Arc<str>, Value)>())?;
        for scope in &self.locals {
            captured.extend(scope.variables.iter().cloned());
        }
        // The innermost first: it is the one that is found.
        captured.reverse();
        Ok(Value::Macro(Rc::new(value::Macro::new(code.clone(), captured, &self.meter)?)))
    }

    /// What a macro writes for arguments.
    pub(super) fn call_macro(&mut self, found: &value::Macro, mut arguments: Arguments) -> Outcome<Value> {
        let _level = self.meter.enter()?;
        let mut around = Scope::new(&self.meter)?;
        around.held.grow(found.captured.len() * size_of::<(Arc<str>, Value)>())?;
        around.variables.clone_from(&found.captured);
        let outer = std::mem::replace(&mut self.locals, vec![around, Scope::new(&self.meter)?]);
        let written = self.capture(|renderer| {
            if let Some(caller) = arguments.named("caller") {
                renderer.set("caller".into(), caller)?;
            }
            for (name, default) in &found.code.parameters {
                let value = match (arguments.optional(name), default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => renderer.evaluate(default)?,
                    (None, None) => Value::Undefined,
                };
                renderer.set(name.clone(), value)?;
            }
            arguments.end()?;
            renderer.body(&found.code.body)
        });
        self.locals = outer;
        Ok(Value::Text(written?.0))
    }
}
