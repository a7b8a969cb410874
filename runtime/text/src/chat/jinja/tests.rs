//! The language where it follows Python and not another engine, and where texts come from.

use serde_json::json;

use super::*;

fn render(source: &str) -> Result<Rendered, Fault> {
    let messages = [
        json!({"role": "user", "content": "Why?"}),
        json!({"role": "assistant", "content": " <think>hm</think>So, x. ", "tool_calls": [{"name": "f", "arguments": {"k": "v"}}]}),
    ];
    let messages = messages.map(|value| Given { value, trusted: false });
    let context = [("messages", Input::Messages(&messages)), ("tools", Input::None)];
    let program = Program { clock: Some(1_000_000_000), ..Program::new(source)? };
    program.render(&context, 2, 100)
}

fn text(source: &str) -> String {
    render(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}")).text
}

#[test]
fn as_python_writes_it() {
    let cases = [
        (
            "{{ [1, 2.5, none, true, 'a\\'b', \"q\\n\"] }}{{ (1,) }}{{ () }}",
            "[1, 2.5, None, True, \"a'b\", 'q\\n'](1,)()",
        ),
        ("{{ 1e16 }} {{ 1.0e15 }} {{ 0.0001 }} {{ 1e-5 }} {{ 2.0 * 2 }}", "1e+16 1000000000000000.0 0.0001 1e-05 4.0"),
        ("{{ {'a': [1, 2.5, none, true], 'b': '<é\\'>'} | tojson }}", r#"{"a": [1, 2.5, null, true], "b": "<é'>"}"#),
        ("{{ [1, 2.5] | tojson(indent=2) }}{{ [] | tojson(indent=2) }}", "[\n  1,\n  2.5\n][]"),
        (
            "{{ {'b': 'é', 'a': 1} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}",
            "{\"a\":1,\"b\":\"\\u00e9\"}",
        ),
        ("{% raw %}\n{{ a }}\n{% endraw %}\nb", "\n{{ a }}\nb"),
        ("{%- generation -%} a {%- endgeneration %}b", "ab"),
        ("{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 2 ** -1 }}{{ -7 // 2 }}{{ -7 % 3 }}{{ 7.5 % 2 }}", "TrueFalse0.5-421.5"),
        ("{{ '%05d|%-5s|%+d|%.2f|%x|%5s|%%' % (42, 'ab', 3, 2.345, 255, 'é') }}", "00042|ab   |+3|2.35|ff|    é|%"),
        ("{{ '{:>5}|{:05d}|{:,}|{:.1f}|{x}'.format('a', 42, 1234567, 3.14159, x=1) }}", "    a|00042|1,234,567|3.1|1"),
        (
            "{{ 'a b c'.rsplit(' ', 1) }}{{ 'a,b'.partition(',') }}{{ 'a.b.c'.rpartition('.') }}",
            "['a b', 'c']('a', ',', 'b')('a.b', '.', 'c')",
        ),
        (
            "{{ 'x'.center(4) }}|{{ 'abcde'.center(8, '*') }}|{{ '7'.zfill(3) }}|{{ 'x'.ljust(2) }}|",
            " x  |*abcde**|007|x |",
        ),
        ("{{ \"they're\".title() }}{{ \"they're\" | title }}{{ 'ß'.upper() }}", "They'ReThey'reSS"),
        ("{{ 42.55 | round(1) }}{{ 2.5 | round }}{{ 42.5 | round(0, 'floor') }}{{ 3 | round }}", "42.52.042.03"),
        ("{{ 'hello big wide world' | truncate(11) }}{{ '0x1A' | int(base=16) }}{{ 'x' | int(-1) }}", "hello...26-1"),
        (
            "{% for x in [[1, [2, 3]], [4]] recursive %}{{ loop.depth }}{% if x is not number %}<{{ loop(x) }}>{% else %}{{ x }}{% endif %}{% endfor %}",
            "1<212<3233>>1<24>",
        ),
        ("{% macro m(x) %}{{ x }}{{ y }}{% endmacro %}{% set y = 5 %}{{ m(1) }}", "15"),
        ("{% for i in range(3) %}{{ loop.changed(i // 2) }}{% endfor %}", "TrueFalseTrue"),
        ("{{ 'a\r\nb' }}\r\nc", "a\nb\nc"),
        (
            "{% for role, group in messages | groupby('role') %}{{ role }}{{ group | length }}{% endfor %}",
            "assistant1user1",
        ),
        (
            "{{ 9223372036854775807 + 1 }}{{ x | length }}{{ x | upper }}{{ x == none }}{{ none.y is defined }}",
            "92233720368547758080FalseFalse",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn faults_name_what_and_where() {
    for (source, message, line) in [
        ("a\n{{ messages[0].nope.x }}", ".nope is undefined", 2),
        ("{% set y = 1 %}\n\n{{ x + y }}", "x is undefined", 3),
        ("{{ 1\n+\n }}", "a value is missing", 3),
        ("\n{% for x in y %}\n", "else or endfor is missing", 2),
        ("{% if 1 %}\n{{ raise_exception('Oh ' ~ 1) }}\n{% endif %}", "Oh 1", 2),
    ] {
        let fault = render(source).expect_err(source);
        assert!(fault.message.contains(message), "{source}: {fault:?}");
        assert_eq!(fault.line, Some(line), "{source}: {fault:?}");
    }
}

/// What comes from messages, each piece in brackets with the number of its message.
fn marked(source: &str) -> String {
    let rendered = render(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
    let (mut out, mut at) = (String::new(), 0);
    for piece in &rendered.pieces {
        assert!(piece.start >= at && piece.end > piece.start, "{source}");
        out += &rendered.text[at..piece.start];
        out += &format!("{}[{}]", piece.source.message.unwrap(), &rendered.text[piece.start..piece.end]);
        at = piece.end;
    }
    out + &rendered.text[at..]
}

#[test]
fn texts_know_their_message_whatever_is_done_to_them() {
    for (source, expected) in [
        (
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
            "<user>0[Why?]<assistant>1[ <think>hm</think>So, x. ]",
        ),
        (
            "{% set c = messages[1]['content'] %}a{{ c | trim }}b{{ 'x' ~ c.strip() + 'y' }}",
            "a1[<think>hm</think>So, x.]bx1[<think>hm</think>So, x.]y",
        ),
        (
            "{% set c = messages[1].content %}{{ c.split('</think>')[-1].lstrip() }}|{{ c[1:8] }}|{{ c[-3] }}",
            "1[So, x. ]|1[<think>]|1[x]",
        ),
        (
            "{% set x %}({{ messages[0].content }}){% endset %}{{ x | upper }}{{ x | replace('h', 'HH') }}",
            "(0[WHY?])(0[W]HH0[y?])",
        ),
        ("{% macro f(c) %}<{{ c }}>{% endmacro %}{{ f(messages[0].content) | indent(2, true) }}", "  <0[Why?]>"),
        (
            "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + m.content[:2] %}{% endfor %}{{ ns.t }}",
            "0[Wh]1[ <]",
        ),
        ("{{ [messages[0].content, 'u', messages[1].content[1:4]] | join('-') }}", "0[Why?]-u-1[<th]"),
        (
            "{{ messages[0].content | tojson }}{{ messages[1].tool_calls[0] | tojson }}",
            "\"0[Why?]\"{\"1[name]\": \"1[f]\", \"1[arguments]\": {\"1[k]\": \"1[v]\"}}",
        ),
        (
            "{% for c in messages[0].content %}{{ c }}.{% endfor %}{{ messages[0].content | list | last }}",
            "0[W].0[h].0[y].0[?].0[?]",
        ),
        (
            "{{ '%s=%5s' % (1, messages[0].content) }}{{ '{}!'.format(messages[0].content) }}{{ messages[0].content * 2 }}",
            "1= 0[Why?Why?]!0[Why?Why?]",
        ),
        (
            "{{ messages | map(attribute='content') | map('trim') | first }}{{ messages[0].content.title() | e }}",
            "0[Why?Why?]",
        ),
        (
            "{% filter lower %}A{{ messages[0].content }}{% endfilter %}{{ messages[0].content | reverse }}{{ messages[0].content[::-1] }}",
            "a0[why??yhW?yhW]",
        ),
    ] {
        assert_eq!(marked(source), expected, "{source}");
    }
}

#[test]
fn splits_from_either_end() {
    for (call, expected) in [
        ("'aaa'.rsplit('aa', 1)", "['a', '']"),
        ("'aaa'.split('aa', 1)", "['', 'a']"),
        ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
        ("'a,b,c'.rsplit(',')", "['a', 'b', 'c']"),
        ("'a,b,c'.rsplit(',', 0)", "['a,b,c']"),
        ("' a  b c '.rsplit(none, 1)", "[' a  b', 'c']"),
        ("' a  b c '.split(none, 1)", "['a', 'b c ']"),
        ("' a  b c '.rsplit()", "['a', 'b', 'c']"),
        ("'a'.split('long')", "['a']"),
    ] {
        assert_eq!(text(&format!("{{{{ {call} }}}}")), expected, "{call}");
    }
}

#[test]
fn the_clock_can_stand_still() {
    assert_eq!(text("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"), "2001-09-09 01:46:40");
}
