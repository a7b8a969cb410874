//! The same text as minijinja gives, which rendered templates before: whole templates and every corner of the language.

use loam::chat::{ChatTemplate, Message};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};

use crate::styles::{STYLES, conversations};

/// Renders with minijinja as chat templates were rendered with it.
fn minijinja(source: &str, messages: &[Message], add_generation_prompt: bool) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", |value: &Value, _: Kwargs| serde_json::to_string(value).unwrap_or_default());
    let messages: Vec<Value> =
        messages.iter().map(|m| context! { role => m.role.as_str(), content => m.content.as_str() }).collect();
    environment.render_str(
        source,
        context! { messages, add_generation_prompt, bos_token => "<s>", eos_token => "</s>", tools => (), documents => () },
    )
}

#[test]
fn whole_templates() {
    for (name, source) in STYLES {
        let template = ChatTemplate::from_source(source, "<s>", "</s>").unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut rendered = 0;
        for messages in conversations() {
            for prompt in [false, true] {
                let found = template.render(&messages, prompt);
                match minijinja(source, &messages, prompt) {
                    Ok(expected) => {
                        assert_eq!(found.unwrap_or_else(|e| panic!("{name}: {e}")), expected, "{name}");
                        rendered += 1;
                    }
                    Err(error) => assert!(found.is_err(), "{name}: {error}"),
                }
            }
        }
        assert!(rendered >= 6, "{name}: only {rendered}");
    }
}

/// Expressions and statements one by one.
#[test]
fn corners_of_the_language() {
    let sources = [
        // White space.
        "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
        "a\n  {%+ if true %}\n  b\n  {%- endif +%}\nc\n\n",
        "  {# x #}\n  y {#- z -#}  w",
        "{% for i in [1, 2] -%}\n   {{ i }}\n{%- endfor %}",
        "x {%- raw -%}  {{ no }} {% not %}  {%- endraw -%} y",
        "{{ '{{' }}{{ '}}' }}{{ {'a': {'b': 1}}.a.b }}",
        "a\n\t {% set x = 1 %}{% set y = 2 %}\n{{ x }}{{ y }}\n",
        // Literals and operators.
        "{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 7 / 2 }} {{ 4 / 2 }}",
        "{{ 1.0 }} {{ 1.5e3 }} {{ 0.1 + 0.2 }} {{ 100000.0 * 3 }}",
        "{{ 'a' ~ 1 ~ none ~ true ~ x }} {{ 'a' 'b' }} {{ \"q\\\"\\n\\t\\\\\\u00e9\\x41\" }}",
        "{{ 1 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 'a' in 'cat' }} {{ 3 not in [1, 2] }} {{ 'k' in {'k': 1} }}",
        "{{ not true and false or 'x' }} {{ 0 or '' or 'z' }} {{ 1 and 2 }} {{ 'y' if 0 else 'n' }}[{{ 'y' if 0 }}]",
        "{{ [1, 'a', none, true, 1.5, [2], {'b': 'c'}] }} {{ (1, 2) }} {{ {'a': 1, 'b': [1]} }}",
        "{{ 'abc'[1] }} {{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ 'abc'[-2:] }} {{ [1, 2, 3][:-1] }} {{ [1, 2, 3, 4][::2] }}",
        "{{ 'ab' * 3 }} {{ [1] + [2] }} {{ '%s-%d' | format('a', 3) }} {{ messages[-1].role }} {{ messages[99] is defined }}",
        // Tests.
        "{{ 1 is odd }} {{ 2 is even }} {{ 9 is divisibleby 3 }} {{ 'a' is string }} {{ 1 is number }} {{ none is none }}",
        "{{ x is defined }} {{ x is not defined }} {{ [] is iterable }} {{ {} is mapping }} {{ 1 is eq 1 }} {{ 1 is in [1] }}",
        "{{ true is boolean }} {{ true is true }} {{ 1.5 is float }} {{ 1 is integer }} {{ 'ab' is startingwith 'a' }}",
        // Filters.
        "{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'aB c' | upper }}|{{ 'aB c' | title }}|{{ 'aB' | capitalize }}",
        "{{ 'a-b' | replace('-', '+') }} {{ [3, 1, 2] | sort | join(', ') }} {{ [1, 2] | last }} {{ 'abc' | first }}",
        "{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
        "{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | map('upper') | list }}",
        "{{ [1, 2, 3, 4] | select('odd') | list }} {{ [0, 1] | select | list }} {{ [1, 2, 3] | reject('odd') | sum }}",
        "{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1} | items | list }} {{ [1, 2, 3] | reverse | list }} {{ 'abc' | reverse }}",
        "{{ x | default('d') }} {{ '' | default('d', true) }} {{ none | d('e') }} {{ [1, 1, 2] | unique | list }}",
        "{{ 'a\\nb\\n\\nc' | indent(2) }} {{ 'a\\nb' | indent(width=3, first=true) }} {{ 3.7 | int }} {{ '12' | int + 1 }}",
        "{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }}",
        "{{ -3 | abs }} {{ 2.5 | round }} {{ 2.567 | round(2) }} {{ [1, 5, 2] | max }} {{ [4, 2] | min }} {{ '<a>' | e }}",
        "{{ 'a,b' | split(',') | list }} {{ 'abc' | list }} {{ {'a': 1} | list }} {{ 12 | string | length }} {{ '1.5' | float }}",
        // Methods.
        "{{ ' a '.strip() }}|{{ 'xxa'.lstrip('x') }}|{{ 'a b  c'.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'Ab'.lower() }}",
        "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abcb'.find('b') }} {{ 'abcb'.rfind('b') }}",
        "{{ 'a-b'.replace('-', '+') }} {{ ', '.join(['a', 'b']) }} {{ 'a\\nb'.splitlines() }} {{ 'aa'.count('a') }}",
        "{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b', 2) }} {{ {'a': 1}.items() | list }} {{ {'a': 1}.keys() | list }}",
        "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %} {{ 'hello world'.title() }} {{ '12'.isdigit() }}",
        // Statements.
        "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}\
         {{ loop.previtem.role if not loop.first }}{{ loop.nextitem.role if not loop.last }}{{ loop.cycle('a', 'b') }} {% endfor %}",
        "{% for i in [] %}x{% else %}none{% endfor %} {% for i in [1, 2, 3, 4] if i % 2 == 0 %}{{ loop.index }}{{ i }}{% endfor %}",
        "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "{% for a in [[1, [2, [3]]]] recursive %}{% for b in a %}{% if b is iterable %}({{ loop(b) if false }}){% else %}{{ b }}{% endif %}{% endfor %}{% endfor %}",
        "{% set x = 1 %}{% for i in [1, 2] %}{% set x = i + 5 %}{{ x }}{% endfor %}{{ x }} {% if true %}{% set x = 9 %}{% endif %}{{ x }}",
        "{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}",
        "{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set t %}x{{ a }}y{% endset %}{{ t | upper }} {% set u | trim %} z {% endset %}[{{ u }}]",
        "{% macro f(a, b='d') %}[{{ a }}{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}{{ f() }}",
        "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
        "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{{ messages | length }}{% endcall %}",
        "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }} {% filter upper %}ab{{ 'c' }}{% endfilter %}",
        "{% if x %}1{% elif messages %}2{% else %}3{% endif %}{% block b %}in{% endblock %}",
        "{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(3, 0, -1) | list }} {{ dict(a=1) }}",
        "{% set x = [1, 2] %}{% set y = {'k': x} %}{{ y.k[1] }} {{ y['k'][0] }} {{ y.nope is defined }} {{ y.get('nope') is none }}",
    ];
    let messages = &conversations()[3];
    let mut problems = Vec::new();
    for source in sources {
        let expected = minijinja(source, messages, true).unwrap_or_else(|e| format!("minijinja: {e:#}"));
        let found = ChatTemplate::from_source(source, "<s>", "</s>").and_then(|t| t.render(messages, true));
        let found = found.unwrap_or_else(|e| e.to_string());
        if found != expected {
            problems.push(format!("{source}\n  is       {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Errors for both.
#[test]
fn errors_of_the_language() {
    let sources = [
        "{{ x.y }}",
        "{{ x + 1 }}",
        "{{ 'a' + 1 }}",
        "{{ 1 / 0 }}",
        "{{ 1 % 0 }}",
        "{{ nope() }}",
        "{{ 'a' | nope }}",
        "{{ 'a' is nope }}",
        "{{ 'a'.nope() }}",
        "{% for i in 5 %}{% endfor %}",
        "{% set a, b = [1] %}",
        "{% set messages.x = 1 %}",
        "{{ 'a' | replace('x') }}",
        "{{ [1, 'a'] | sort }}",
        "{% if %}",
        "{% endif %}",
        "{% for x in messages %}",
        "{{ 1",
        "{{ 'a }}",
        "{% raw %}",
        "{# x",
        "{{ (1 }}",
        "{{ a b }}",
        "{% nope %}",
        "{{ 1 | }}",
        "{{ messages[0].content.split('') }}",
        "{% include 'x' %}",
    ];
    for source in sources {
        let found = ChatTemplate::from_source(source, "", "").and_then(|t| t.render(&conversations()[3], true));
        let message = found.expect_err(source).to_string();
        assert!(message.len() < 400, "{source}: {message}");
    }
}
