//! Case 37: templates made to take memory or time. Each ends in a typed error, soon, within a small budget.

use std::time::Duration;

use loam::chat::{ChatTemplate, Message};
use loam_tests::budget::measure;
use loam_text::Error;

/// Most bytes that compiling and rendering may add, besides 64 for each byte of the source.
const BYTES: u64 = 64 << 20;
/// Longest time it may take; a debugger's build is slower than what people run.
const TIME: Duration = Duration::from_secs(1);

/// Renders on a small stack within the budgets.
fn bounded(source: &str) -> Result<usize, Error> {
    let source = source.to_owned();
    let work = move || {
        let messages = [Message::new("user", "x"), Message::new("assistant", "y")];
        let (result, bytes, time) =
            measure(|| ChatTemplate::from_source(&source, "", "").and_then(|t| t.render(&messages, true)));
        let shown: String = source.chars().take(100).collect();
        assert!(bytes < BYTES + 64 * source.len() as u64, "{shown}: {bytes} bytes");
        assert!(time < TIME, "{shown}: {time:?}");
        result.map(|text| text.len())
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).expect("a thread").join().expect("no panic")
}

/// The message of the typed error.
#[track_caller]
fn refused(source: &str) -> String {
    match bounded(source) {
        Err(Error::Template(message)) => {
            assert!(message.len() < 500, "{} bytes of message", message.len());
            message
        }
        other => panic!("{}: {other:?}", source.chars().take(200).collect::<String>()),
    }
}

#[test]
fn values_that_double() {
    let start = "{% set ns = namespace(x='a', l=[1], m={}) %}{% for i in range(60) %}";
    for step in [
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% set ns.x = ns.x + ns.x %}",
        "{% set ns.x = ns.x * 2 %}",
        "{% set ns.x = [ns.x, ns.x] | join %}",
        "{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}",
        "{% set ns.x = ns.x.replace('a', 'aa') %}",
        "{% set ns.x = ns.x | replace('a', 'aa') %}",
        "{% set ns.x = '%s%s' | format(ns.x, ns.x) %}",
        "{% set ns.x = '{0}{0}'.format(ns.x) %}",
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}",
        "{% set ns.x = ns.x ~ (ns.x | tojson) %}",
        "{% set ns.x = ns.x ~ (ns.x | upper) ~ (ns.x | e) ~ (ns.x | title) %}",
        "{% set ns.l = ns.l + ns.l %}",
        "{% set ns.l = ns.l * 2 %}",
        "{% set ns.l = (ns.l | list) + (ns.l | reverse | list) %}",
        "{% set ns.l = ns.l | chain(ns.l) | list %}",
        "{% set ns.l = [ns.l, ns.l] | sum(start=[]) %}",
        "{% set ns.x = (ns.l | string) %}{% set ns.l = [ns.x, ns.x] %}",
        "{% set ns.x = [ns.l] | tojson(indent=4) %}{% set ns.l = [ns.x, ns.x, ns.l] %}",
    ] {
        let message = refused(&format!("{start}{step}{{% endfor %}}"));
        assert!(message.contains("too large") || message.contains("fuel"), "{step}: {message}");
    }
}

/// Reading costs steps like copying does: subjects and arguments, keys and names.
#[test]
fn every_look_at_a_text_counts() {
    let start =
        "{%- set t = ('a'*1000)*1000 %}{% set u = t[1:] ~ 'b' %}{% set z = ('0'*1000)*1000 %}{% set d = {t: 1} %}";
    for step in [
        "t is lower",
        "t is upper",
        "t is startingwith(u)",
        "t is endingwith(u)",
        "t | truncate(2000000)",
        "[t] | map('truncate', 2000000) | list",
        "t | lines",
        "'b'.count(t)",
        "'b'.find(t)",
        "'b'.partition(t)",
        "'b'.rsplit(t, 1)",
        "t.rsplit(u, 1)",
        "t.rsplit(none, 1)",
        "t.rpartition(u)",
        "'b'.replace(t, 'c')",
        "'b' | replace(t, '')",
        "'b' | split(t)",
        "t in u",
        "d[u]",
        "([[1]]*50000) | map(attribute=z) | list",
    ] {
        let message = refused(&format!("{start}{{% for i in range(100000) %}}{{% set x = {step} %}}{{% endfor %}}"));
        assert!(message.contains("fuel"), "{step}: {message}");
    }
    let name = "n".repeat(400_000);
    assert!(refused(&format!("{{% set d = {{}} %}}{{{{ d.{name} }}}}")).contains("a name of more than"));
}

/// Steps longer than any list.
#[test]
fn slices_with_enormous_steps() {
    for (slice, expected) in [("::-(2**126)-(2**126)", "c"), ("::2**126", "a"), ("1::-(2**100)", "b")] {
        let template = ChatTemplate::from_source(&format!("{{{{ 'abc'[{slice}] }}}}"), "", "").expect("compiles");
        assert_eq!(template.render(&[], false).expect("renders"), expected, "{slice}");
    }
}

/// Where a text would lose what tells a message's words from the template's own, they are refused.
#[test]
fn words_of_messages_are_no_names() {
    let message = [Message::new("user", "<|im_end|>")];
    for source in [
        "{{ strftime_now(messages[0].content) }}",
        "{{ dict(**{messages[0].content: 1}) | list | first }}",
        "{{ [1] | tojson(indent=messages[0].content) }}",
    ] {
        let template = ChatTemplate::from_source(source, "", "").expect("compiles");
        let error = template.render(&message, false).expect_err(source).to_string();
        assert!(error.contains("a message's words"), "{source}: {error}");
    }
}

#[test]
fn one_step_that_enlarges() {
    let long = "'y' * 100000";
    for source in [
        "{{ 'x' | indent(1000000000) }}".to_owned(),
        "{{ 'a\\n' * 1000 | indent(1000000, true, true) }}".to_owned(),
        "{{ '%1000000000d' | format(1) }}".to_owned(),
        "{{ '%.1000000000f' | format(1) ~ '%1000000000s' % 'x' }}".to_owned(),
        "{{ '{:1000000000}'.format(1) }}".to_owned(),
        "{{ '{:099999999999999999999999d}'.format(1) }}".to_owned(),
        "{{ 'x' | center(1000000000) }}{{ 'x'.ljust(10**12) }}".to_owned(),
        "{{ 'x'.zfill(1000000000) }}".to_owned(),
        "{{ 'a' * 10**9 }}".to_owned(),
        "{{ [0] * 10**9 }}".to_owned(),
        "{{ 10 ** (10 ** 9) }}".to_owned(),
        format!("{{{{ (range(100000) | list) | join({long}) }}}}"),
        "{{ 'x'.join(['y' * 100000000] * 50) }}".to_owned(),
        format!("{{{{ 'x'.join([{long}] * 500) }}}}"),
        format!("{{{{ ('a' * 100000).replace('a', {long}) }}}}"),
        format!("{{{{ ('a' * 100000) | replace('', {long}) }}}}"),
        "{{ range(100000) | batch(1000000000, 0) | list }}".to_owned(),
        "{{ range(100000) | slice(1000000000, 0) | list }}".to_owned(),
        "{{ ('ab ' * 3000000).split() }}".to_owned(),
        "{{ ('ab ' * 3000000) | list | length }}".to_owned(),
        "{{ ('ab\\n' * 3000000).splitlines() | length }}".to_owned(),
        "{{ ([[range(100000) | list] * 1000] * 1000) | tojson(indent=16) }}".to_owned(),
        "{{ ([[range(100000) | list] * 1000] * 1000) | string | length }}".to_owned(),
        "{{ ([[range(100000) | list] * 1000] * 1000) | pprint }}".to_owned(),
        "{{ range(100000) | map('string') | map('center', 100000) | list | length }}".to_owned(),
        "{{ range(10**30) }}{{ range(-10**30, 10**30, 1) }}".to_owned(),
        "{{ [messages] | sum(start=[]) | zip(range(100000)) | groupby('x') | length }}{{ 1 // 0 }}".to_owned(),
    ] {
        refused(&source);
    }
}

#[test]
fn captured_output_counts() {
    let raw = "raw text ".repeat(1000);
    for body in ["{{ 'a' * 100000 }}", &raw, "{{ messages }}{{ 'a' * 1000 }}"] {
        let many = format!("{{% for i in range(100000) %}}{body}{{% endfor %}}");
        for source in [
            many.clone(),
            format!("{{% set y %}}{many}{{% endset %}}{{{{ y | length }}}}"),
            format!("{{% macro m() %}}{many}{{% endmacro %}}{{{{ m() | length }}}}"),
            format!("{{% filter length %}}{many}{{% endfilter %}}"),
            format!("{{% macro m() %}}{{{{ caller() }}}}{{% endmacro %}}{{% call m() %}}{many}{{% endcall %}}"),
            format!("{{% set y %}}{{% set z %}}{many}{{% endset %}}{{% endset %}}"),
        ] {
            let message = refused(&source);
            assert!(["too large", "fuel", "writes more"].iter().any(|word| message.contains(word)), "{message}");
        }
    }
}

#[test]
fn values_in_each_other() {
    let start = "{% set ns = namespace(x=0, m={}) %}{% for i in range(99999) %}";
    for step in [
        "{% set ns.x = [ns.x] %}",
        "{% set ns.x = {'a': ns.x} %}",
        "{% set ns.x = (ns.x, ns.x) %}",
        "{% set ns.x = dict(a=ns.x) %}",
        "{% for j in [ns.x] %}{% set ns.x = loop %}{% endfor %}",
        "{% with p = ns.x %}{% macro g() %}{% endmacro %}{% set ns.x = g %}{% endwith %}",
        "{% with p = [ns.x] %}{% macro g() %}{% endmacro %}{% set ns.x = {'g': g} %}{% endwith %}",
    ] {
        assert!(refused(&format!("{start}{step}{{% endfor %}}")).contains("nested deeper"), "{step}");
    }
    // Namespaces may hold each other, in a ring or a chain; nothing is lost and nothing recurses.
    assert!(refused(&format!("{start}{{% set ns.x = namespace(before=ns.x) %}}{{% endfor %}}")).contains("too large"));
    for source in [
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}{{ ns.x.x == ns }}",
        "{% set ns = namespace() %}{% for i in range(9999) %}{% set ns.x = namespace(b=ns.x, c=[ns]) %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}{% set ns.m = [loop, ns] %}{{ loop.changed(ns.m) }}{% endfor %}",
    ] {
        bounded(source).expect("harmless");
    }
    // The memory of a rendering is given back, whatever holds what.
    let source =
        "{% set ns = namespace(t='a' * 1000000) %}{% set ns.x = [ns] %}{% macro f() %}{% endmacro %}{% set ns.f = f %}";
    let template = ChatTemplate::from_source(source, "", "").expect("sound");
    let ((), bytes, _) = measure(|| (0..100).for_each(|_| drop(template.render(&[], true).expect("harmless"))));
    assert!(bytes < 4 << 20, "{bytes} bytes after a hundred renderings");
}

#[test]
fn depth_of_source_and_calls() {
    let nested = |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
    let tags = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    for source in [
        format!("{{{{ {} }}}}", nested("(", ")", 100_000)),
        format!("{{{{ {} }}}}", nested("[", "]", 100_000)),
        format!("{{{{ {} }}}}", nested("{'a':", "}", 100_000)),
        format!("{{{{ {} }}}}", nested("-", "", 100_000)),
        format!("{{{{ {} }}}}", nested("not ", "", 100_000)),
        format!("{{{{ {} }}}}", nested("1+", "", 100_000)),
        format!("{{{{ {} }}}}", nested("1 ~ ", "", 100_000)),
        format!("{{{{ {} }}}}", nested("1 if 1 else ", "", 50_000)),
        format!("{{{{ {} }}}}", nested("0 or ", "", 100_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ x{} }}}}", "[0]".repeat(100_000)),
        format!("{{{{ x{} }}}}", "|e".repeat(100_000)),
        format!("{{{{ x{} }}}}", "()".repeat(100_000)),
        format!("{{{{ x{} }}}}", " is none".repeat(100_000)),
        tags("{% if 1 %}", "{% endif %}"),
        tags("{% for i in [1] %}", "{% endfor %}"),
        tags("{% set x %}", "{% endset %}"),
        tags("{% filter e %}", "{% endfilter %}"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(n) %}{% for i in [1] %}{% if 1 %}{% with %}{{ [(f(n ~ 'a'))] }}{% endwith %}{% endif %}{% endfor %}{% endmacro %}{{ f('') }}".to_owned(),
        "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}".to_owned(),
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        format!("{{% macro f({}) %}}{{{{ f(1) }}}}{{% endmacro %}}{{{{ f(1) }}}}", (0..20_000).map(|i| format!("a{i},")).collect::<String>()),
        format!("{{% macro f(a) %}}{{{{ f([{}]) }}}}{{% endmacro %}}{{{{ f(1) }}}}", "1,".repeat(100_000)),
    ] {
        refused(&source);
    }
    // The deepest that is allowed fits the stack.
    for source in [
        format!("{{{{ {} }}}}", nested("(", ")", 90)),
        format!("{{{{ {} }}}}", nested("1+", "", 110)),
        format!("{}x{}", "{% if 1 %}".repeat(90), "{% endif %}".repeat(90)),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}".to_owned(),
    ] {
        bounded(&source).expect("deep, but not too deep");
    }
}

#[test]
fn long_work_and_long_sources() {
    for source in [
        "{% for i in range(1000000000) %}{% endfor %}".to_owned(),
        format!("{}{}", "{% for i in range(9999) %}".repeat(6), "{% endfor %}".repeat(6)),
        "{% set x = 'a' * 9000000 %}{% for i in range(99999) %}{% if x == x ~ '' %}{% endif %}{% endfor %}".to_owned(),
        "{% set x = 'ab' * 2000000 %}{% for i in range(99999) %}{% if 'c' in x %}{% endif %}{{ x[-1] }}{% endfor %}"
            .to_owned(),
        "{% set x = 'ab' * 2000000 %}{% for i in range(99999) %}{{ x.find('c') }}{{ x.count('c') }}{% endfor %}"
            .to_owned(),
        "{% set x = range(99999) | list %}{% for i in range(99999) %}{% if 'c' in x %}{% endif %}{% endfor %}"
            .to_owned(),
        "{{ range(99999) | unique | list | length }}".to_owned(),
        "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}".to_owned(),
        "{{ raise_exception('x' * 10000000) }}".to_owned(),
        "{{ ('x' * 10000000).nope() }}{{ nope['x' * 1000000] }}".to_owned(),
        format!("{{{{ {}() }}}}", "x".repeat(1 << 19)),
        format!("{{{{ 1 | {} }}}}", "x".repeat(1 << 19)),
        format!("{{% {} %}}", "x".repeat(1 << 19)),
    ] {
        refused(&source);
    }
    // As many tags as a source can have, and all kinds of openings that never close.
    for source in
        ["{{1}}", "{%if 1%}{%endif%}", "{#", "{# #}", "{% raw %}", "{%", "{{", "{", "{% raw %}{% endraw %}", "{{''}} "]
    {
        let _ = bounded(&source.repeat((1 << 20) / source.len()));
    }
}
