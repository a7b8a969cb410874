"""Expressions and statements of Jinja, and what jinja2 as Transformers configures it makes of them: jinja.json.

python3 tests/assets/jinja.py   (needs transformers and jinja2)
"""
import datetime
import json
import os

from transformers.utils import chat_template_utils as utils

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi", "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2, None, True, 0.5]}}}]},
    {"role": "tool", "content": "3", "name": "add"},
]

EXPRESSIONS = r"""
none | select | list
none | reject('none') | list
none | selectattr('type', 'equalto', 'x') | list
none | rejectattr('type') | list
none | map('upper') | list
none | map(attribute='x') | list
tools | selectattr('type', 'equalto', 'x') | list | length
tools | map(attribute='name') | join(', ')
false | select | list
0 | map('upper') | list
'' | select | list
missing | select | list
missing | reject | list
missing | selectattr('a') | list
missing | rejectattr('a') | list
missing | map('upper') | list
missing | map(attribute='a') | list
missing | list
missing | length
missing | first
missing | last
missing | join(',')
missing | sort
missing | sum
missing | unique | list
missing | reverse | list
missing | upper
missing | trim
missing | int
missing | float
missing | string
missing | default('d')
none | default('d')
none | default('d', true)
'' | default('d', true)
none | string
none | upper
none | trim
none | int
none | float
none | tojson
none | length
none | join(',')
none | list
none | first
missing.a
missing is defined
missing is undefined
missing is none
missing == none
missing ~ 'x'
missing + 'x'
none ~ 'x'
none + 'x'
not missing
missing or 'x'
missing and 'x'
missing in ['x']
'x' in missing
'x' in none
missing | tojson
[1, none, 2] | select | list
[1, none, 2] | reject | list
[1, none, 2] | select('none') | list
[1, 2, 3, 4] | select('odd') | list
[1, 2, 3, 4] | select('even') | list
[1, 2, 3, 4] | reject('gt', 2) | list
[1, 2, 3] | select('in', [1, 3]) | list
[1, 2, 3] | select('divisibleby', 3) | list
messages | selectattr('role', 'equalto', 'user') | list | length
messages | selectattr('role', '==', 'user') | map(attribute='content') | list
messages | selectattr('role', 'ne', 'user') | map(attribute='role') | join('-')
messages | selectattr('role', 'in', ['user', 'tool']) | map(attribute='role') | list
messages | rejectattr('role', 'equalto', 'system') | map(attribute='role') | list
messages | rejectattr('tool_calls') | map(attribute='role') | list
messages | selectattr('tool_calls') | map(attribute='role') | list
messages | selectattr('tool_calls', 'defined') | list | length
messages | selectattr('tool_calls', 'undefined') | list | length
messages | map(attribute='name', default='-') | list
messages | map(attribute='tool_calls.0.function.name') | list
messages | map('length') | list
messages | groupby('role') | list | length
messages | groupby('role') | map(attribute=0) | list
messages | map(attribute='content') | map('upper') | list
messages | map(attribute='content') | map('replace', 'e', 'E') | first
messages | first | items | list | first
messages[-1].role
messages[0]['content']
messages[0].get('content')
messages[0].get('nope')
messages[0].get('nope', 'd')
messages[0].keys() | list
messages[0].values() | list
messages[0] | items | list
messages[1:] | length
messages[::-1][0].role
messages[-2:][0].role
messages[2].tool_calls[0].function.arguments | tojson
messages[2].tool_calls[0].function.arguments
messages[2].tool_calls[0].function.arguments | string
messages[2].tool_calls[0].function.arguments | items | list
messages[2].tool_calls | tojson(indent=2)
messages[2].tool_calls | tojson(ensure_ascii=true)
{'b': 1, 'a': 'ä'} | tojson
{'b': 1, 'a': 'ä'} | tojson(ensure_ascii=true)
{'b': 1, 'a': 2} | tojson(sort_keys=true)
{'b': 1, 'a': 2} | tojson(separators=(',', ':'))
{'b': [1, {'c': 2}]} | tojson(indent=4)
{'b': 1, 'a': 2} | dictsort
{'b': 1, 'a': 2} | dictsort(by='value')
{'b': 1, 'a': 2} | dictsort(reverse=true)
{'b': 1, 'a': 2} | list
{'b': 1, 'a': 2} | length
{'b': 1, 'a': 2}.items() | list
{'b': 1, 'a': 2} == {'a': 2, 'b': 1}
{'a': 1}.a
{'a': 1}['a']
{'a': 1}.b is defined
{'items': 1}['items']
{1: 'x'}[1]
{'a': none} | tojson
{1: 2, none: 3, true: 4} | tojson
[1, 2.0, 'x', none, true] | tojson
'<b> & "q"' | tojson
'<b>' | e
'<b>' | escape
'<b>' | safe
'<b>' | safe | e
'<b>' | e | e
'<b>' | forceescape
'a' + ('b' | safe)
('a' | safe) + 'b'
('a' | safe) + '<b>'
'<a>' ~ ('<b>' | safe)
('<b>' | safe) ~ '<a>'
'<a>' + ('<b>' | safe)
('<b>' | e) + '<c>'
('<b>' | safe) | upper
('<b>' | safe) is string
('<b>' | safe) is escaped
'<b>' is escaped
'%s' % ('<b>' | safe)
('a' | safe) * 2
('a' | safe) | length
('a' | safe) == 'a'
('<a>' | safe) | replace('<', '&')
['<a>' | safe, '<b>'] | join('<')
('a<' | safe) in 'a<b'
('A' | safe) | tojson
true is boolean
true is number
true is integer
true is float
1 is number
1.5 is number
1 is integer
1 is float
1.0 is float
1 is boolean
'1' is number
none is number
true is true
1 is true
false is false
0 is false
true is sameas true
1 is sameas 1
1 is eq 1
1 is equalto 1.0
1 is lt 2
2 is gt 1
2 is ge 2
1 is le 0
1 is ne 2
1 is in [1, 2]
1 is not in [1, 2]
'a' is in 'abc'
3 is odd
3 is even
3 is divisibleby 3
4 is divisibleby(3)
'a' is string
'a' is sequence
'a' is iterable
'a' is mapping
{} is mapping
{} is sequence
[] is sequence
[] is iterable
1 is iterable
1 is sequence
none is iterable
none is sequence
missing is iterable
missing is sequence
missing is string
missing is mapping
range is callable
'a' is callable
'ab' is lower
'AB' is upper
'Ab' is lower
'12' is lower
'12' is upper
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
not 1 is odd
1 is not odd
1 is odd and 2 is even
1 + 2 is odd
1 + 2 * 3 ** 2
-2 ** 2
2 ** -1
2 ** 0.5
7 // 2
-7 // 2
7 % 3
-7 % 3
7 / 2
6 / 2
1 / 3
7.5 // 2
10 ** 20
1e3
1.5e-7
1e16
123456789012345678
0.1 + 0.2
1_000
0x1f
0b11
0o17
true + 1
true and false
1 or 2
0 or ''
'' or none
1 if true else 2
1 if false
'x' if missing is defined else 'y'
1 < 2 < 3
1 < 3 < 2
1 == 1.0
1 == true
'a' == 'a'
'a' < 'b'
[1, 2] == [1, 2]
(1, 2) == (1, 2)
[1, 2] < [1, 3]
'a' in 'abc'
'a' not in 'abc'
1 in [1, 2]
'a' in {'a': 1}
'a' 'b'
'a' ~ 1 ~ none ~ true ~ 1.0
'a' * 3
3 * 'a'
[0] * 3
[1] + [2]
(1,) + (2,)
(1, 2)
(1,)
()
[]
{}
[1, 'a', none, true, 1.5]
"it's"
'a "q"'
'a\nb'
'a\tb\\'
['a\nb']
['it\'s', 'a"b', 'it\'s "q"']
'ä€😀'
['ä€😀']
'abc'[1]
'abc'[-1]
'abc'[1:]
'abc'[:-1]
'abc'[::-1]
'abc'[::2]
'abc'[5:]
'abc'[9] is defined
[1, 2, 3][1:]
[1, 2, 3][::-1]
[1, 2, 3].index(2)
[1, 2, 2].count(2)
(1, 2, 3)[1:]
'%s' % 'a'
'%s and %s' % ('a', 'b')
'%d' % 3.7
'%5d|' % 42
'%-5d|' % 42
'%05d' % 42
'%05d' % -42
'%+d' % 42
'% d' % 42
'%x' % 255
'%#x' % 255
'%X' % 255
'%o' % 8
'%e' % 12345.678
'%.2e' % 0.00012
'%g' % 0.0001
'%g' % 1000000.0
'%g' % 10000000.0
'%f' % 1
'%.2f' % 3.14159
'%8.3f|' % 3.14159
'%s' % none
'%r' % 'a'
'%5s|' % 'ab'
'%-5s|' % 'ab'
'%.1s' % 'ab'
'%c' % 'a'
'%%' % ()
'%(a)s' % {'a': 1}
'%s' % [1]
'%s' | format('a')
'%s-%s' | format('a', 1)
'%(x)s' | format(x=1)
'{}'.format('a')
'{} {}'.format('a', 1)
'{0} {0} {1}'.format('a', 'b')
'{x}'.format(x=1)
'{:5}|'.format('a')
'{:>5}|'.format('a')
'{:^5}|'.format('a')
'{:*^5}|'.format('a')
'{:5}|'.format(1)
'{:<5}|'.format(1)
'{:05}'.format(-42)
'{:05d}'.format(42)
'{:+}'.format(3)
'{:,}'.format(1234567)
'{:_}'.format(1234567)
'{:,.2f}'.format(1234.5)
'{:.3f}'.format(1)
'{:e}'.format(12345.678)
'{:.1e}'.format(0.00012)
'{:E}'.format(12345.678)
'{:g}'.format(0.00001)
'{:g}'.format(123456789.0)
'{:.3g}'.format(3.14159)
'{:%}'.format(0.25)
'{:.0%}'.format(0.255)
'{:x}'.format(255)
'{:#x}'.format(255)
'{:b}'.format(5)
'{:o}'.format(8)
'{:c}'.format(65)
'{:n}'.format(5)
'{:s}'.format('a')
'{:.2}'.format('abc')
'{!r}'.format('a')
'{!s:>3}'.format(1)
'{{}}'.format()
'{}'.format(none)
'{}'.format(true)
'{:d}'.format(true)
'{}'.format(1.0)
'{}'.format([1, 'a'])
'5'.zfill(3)
'-5'.zfill(4)
'+5'.zfill(4)
'ab'.zfill(1)
''.zfill(2)
'ab'.center(5)
'abc'.center(6)
'ab'.center(5, '*')
'ab'.ljust(4) ~ '|'
'ab'.rjust(4)
'ab' | center(6)
'ab' | center(7) ~ '|'
'a b c'.split()
'a b c'.split(' ', 1)
'a  b'.split()
'a  b'.split(' ')
'a,b,c'.rsplit(',', 1)
' a b '.split()
''.split()
''.split(',')
'a\nb\r\nc'.splitlines()
'a\nb\n'.splitlines(true)
'a\x0bb'.splitlines()
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
' a '.strip() ~ '|'
' a '.lstrip() ~ '|'
' a '.rstrip() ~ '|'
'xxaxx'.strip('x')
'abc'.removeprefix('ab')
'abc'.removesuffix('bc')
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.endswith('bc')
'abc'.find('c')
'abc'.find('x')
'abcabc'.rfind('b')
'abc'.index('b')
'abca'.count('a')
'aaa'.count('aa')
'abc'.count('')
'abc'.replace('b', 'x')
'aaa'.replace('a', 'b', 2)
'abc'.upper()
'ABC'.lower()
'hello world'.title()
"it's a".title()
'hello World'.capitalize()
'aBc'.swapcase()
'abc'.join(['x', 'y'])
', '.join(['x', 'y'])
'abc'.isalpha()
'12'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'a1'.isalnum()
' '.isspace()
'abc'.islower()
'Abc'.istitle()
'ß'.upper()
'İ'.lower() | length
'abc' | upper
'ABC' | lower
'hello wORLD' | title
"it's (a) b-c" | title
'hello World' | capitalize
'  a ' | trim ~ '|'
'xax' | trim('x')
'aaa' | replace('a', 'b', 2)
'a\nb\nc' | indent
'a\nb\nc' | indent(2)
'a\nb\nc' | indent(2, true)
'a\n\nb' | indent(2)
'a\n\nb' | indent(2, true, true)
'a\nb' | indent('> ')
'a\nb\n' | indent(2)
'hello world foo' | truncate(8)
'hello world foo' | truncate(8, true)
'hello world foo' | truncate(8, false, '..')
'hello world foo' | truncate(12, leeway=5)
'hello world' | wordcount
'abc' | list
'abc' | reverse
'abc' | first
'abc' | last
'abc' | length
'abc' | batch(2) | list
'a' | int
'12' | int
'12.7' | int
' 12 ' | int
'0x1f' | int(0, 16)
'1f' | int(base=16)
'abc' | int(7)
12.7 | int
-12.7 | int
true | int
none | int(5)
'1.5' | float
'abc' | float
'abc' | float(2.5)
1 | float
2.5 | round
3.5 | round
2.567 | round(2)
2.567 | round(1, 'floor')
2.501 | round(0, 'ceil')
-2.5 | round
5 | round
15 | round(-1)
1234.5 | round(-2)
-3 | abs
-3.5 | abs
1 | string
1.0 | string
true | string
[1] | string
[3, 1, 2] | sort
[3, 1, 2] | sort(reverse=true)
['b', 'A', 'c'] | sort
['b', 'A', 'c'] | sort(case_sensitive=true)
[{'a': 2}, {'a': 1}] | sort(attribute='a')
[{'a': 2, 'b': 1}, {'a': 1, 'b': 2}] | sort(attribute='a,b')
['a', 'A', 'b'] | unique | list
['a', 'A', 'b'] | unique(true) | list
[1, 2, 3] | sum
[{'a': 1}, {'a': 2}] | sum(attribute='a')
[1, 2] | sum(start=10)
[1, 2, 3] | min
[1, 2, 3] | max
['b', 'A'] | min
['b', 'A'] | max
[{'a': 2}, {'a': 1}] | min(attribute='a')
[] | min
[] | first
[] | last
[] | sum
[1, 2, 3] | first
[1, 2, 3] | last
[1, 2, 3] | join
[1, 2, 3] | join(', ')
[1, none] | join('-')
[{'a': 1}, {'a': 2}] | join(',', attribute='a')
[1, 2, 3] | reverse | list
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3] | batch(2, 0) | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3] | slice(2, 'x') | list
[1, 2, 3] | map('string') | list
['1', '2'] | map('int') | sum
['a', 'b'] | map('upper') | join
['a', 'b'] | map('replace', 'a', 'x') | list
[[1, 2], [3]] | map('length') | list
[[1, 2], [3]] | map('first') | list
[[1, 2], [3, 4]] | map(attribute=1) | list
[[1, 2], [3, 4]] | map('join', '-') | list
[[1], [2]] | sum(start=[])
[1, 2, 3] | length
[1, 2, 3] | count
range(3) | list
range(1, 4) | list
range(5, 0, -2) | list
range(3) | length
range(3)[1]
2 in range(3)
dict(a=1, b=2)
dict(a=1) | items | list
dict([('a', 1)])
dict({'a': 1}, b=2)
namespace(a=1).a
loop is defined
caller is defined
raise_exception is defined
strftime_now is defined
tojson is defined
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d')
strftime_now('%A, %B %d, %Y')
strftime_now('%j')
strftime_now('%H:%M:%S')
strftime_now('%I:%M %p')
strftime_now('%y %m %e')
strftime_now('%a %U %w %u')
strftime_now('%V %G')
strftime_now('%D %R')
strftime_now('%c')
strftime_now('%x %X')
strftime_now('%C%%')
strftime_now('%-d %-m')
strftime_now('%h %n%t')
strftime_now('%s')
strftime_now('%W')
strftime_now('%l %k')
strftime_now('%f')
'abc' | pprint
{'b': 1} | pprint
"{}" | safe
bos_token ~ eos_token
add_generation_prompt
documents
tools
tools is none
tools is defined
not tools
messages is defined and messages
messages | length > 2
messages | last | length
messages[0]['role'] == 'system' and messages | length
messages[10] is defined
messages[10].role is defined
''.join(['a', 'b'] | map('upper'))
('a' if true else 'b') ~ 'c'
[x for x in []] is defined
""".strip("\n").split("\n")

STATEMENTS = [
    "{% with a, b = 1, 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x }}",
    "{% with (a, b) = (1, 2) %}{{ a }}{{ b }}{% endwith %}",
    "{% with a, b = (1, 2), c = 3 %}{{ a }}{{ b }}{{ c }}{% endwith %}",
    "{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}",
    "{% set ns = namespace() %}{% for i in [1, 2] %}{% set ns.l = i %}{% endfor %}{{ ns.l }}",
    "{% set x %}a{{ 1 }}{% endset %}{{ x }}{{ x is string }}",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}",
    "{% for i in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
    "{% for i in [1, 2, 3] if i > 1 %}{{ i }}{{ loop.index }}{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    "{% for i in none %}x{% else %}none{% endfor %}",
    "{% for i in missing %}x{% else %}none{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}",
    "{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for c in 'abc' %}{{ c }}-{% endfor %}",
    "{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.index }}{{ loop.depth }} {% endfor %}{% endfor %}",
    "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [[1, [2]], [3]] recursive %}{{ x if x is number else '(' ~ loop(x) ~ ')' }}{% endfor %}",
    "{% for i in [1] %}{% set x = i %}{% endfor %}{{ x is defined }}",
    "{% set x = 0 %}{% for i in [1] %}{% set x = i %}{% endfor %}{{ x }}",
    "{% if true %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% if none %}a{% elif 1 %}b{% else %}c{% endif %}",
    "{% if missing %}a{% endif %}b",
    "{% if not missing.x is defined %}a{% endif %}b",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "{% macro f() %}{{ caller(1) }}{% endmacro %}{% call(a) f() %}<{{ a }}>{% endcall %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f('a') is string }}{{ f('<') ~ '<' }}",
    "{% macro f(x) %}{% if x %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(x=none) %}{{ x is none }}{% endmacro %}{{ f() }}{{ f.name }}",
    "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}abc{% endfilter %}",
    "{% raw %}{{ x }}{% endraw %}",
    "a {#- comment -#} b",
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}\n  b\n  {% endif %}\n",
    "a {%- if true -%} b {%- endif -%} c",
    "a {%+ if true %} b {%+ endif %} c",
    "{{ 'a' -}}\n  b",
    "{{- 'a' }}\n\n",
    "{% generation %}x{% endgeneration %}",
    "{% set l = [] %}{{ l.append(1) }}",
    "{% set x = messages | map(attribute='role') | list %}{{ x[0] }}{{ x | length }}",
    "{% set x = {'a': {'b': [1, 2]}} %}{{ x.a.b[1] }}{{ x['a']['b'][0] }}",
    "{% set s = 'abc' %}{{ s[0] }}{{ s[-1:] }}{{ s | length }}",
    "{% for m in messages %}{% if loop.first and m.role == 'system' %}S{% elif loop.last %}L{% else %}.{% endif %}{% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index0 }}{{ m.role }} {% endfor %}",
    "{% for m in messages[1:] %}{{ m['content'] | trim }}|{% endfor %}",
    "{%- for m in messages | selectattr('role', 'in', ['user']) -%} {{ m.content }} {%- endfor -%}",
    "{{ messages[0] }}",
    "{% set a = [1, 2] + [3] %}{{ a }}{{ a | join }}",
    "{% set text = '  x  ' %}[{{ text.strip() }}][{{ text | trim }}]",
    "{% block b %}x{% endblock %}",
    "{{ raise_exception('no') }}",
    "{{ nope() }}",
    "{{ 1 | nope }}",
    "{{ 'a'.nope() }}",
    "{{ messages.nope }}",
    "{{ (messages | first).role }}",
    "{% set x = true %}{{ x and not false or none }}",
    "{{ 'a' if messages else 'b' }}{{ 'c' if not messages }}",
    "{{ [1, 2, 3] | select('odd') | map('string') | join('+') }}",
    "{{ {'a': 1, **{'b': 2}} }}",
    "{{ dict(a=1, **{'b': 2}) }}",
    "{% trans %}x{% endtrans %}",
    "{% include 'x' %}",
]

CLOCK = 1_795_132_800


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(CLOCK, datetime.timezone.utc).replace(tzinfo=None)


def render(source):
    template = utils._compile_jinja_template(source)
    return template.render(messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True,
                           bos_token="<s>", eos_token="</s>")


def main():
    os.environ["TZ"] = "UTC"
    utils.datetime = Fixed
    table = []
    for source in ["{{ %s }}" % e for e in EXPRESSIONS] + STATEMENTS:
        try:
            table.append([source, render(source)])
        except Exception as error:
            table.append([source, {"error": type(error).__name__}])
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "jinja.json"), "w", encoding="utf-8") as out:
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table)
        out.write(json.dumps({"messages": MESSAGES, "clock": CLOCK})[:-1] + ', "table": [\n' + rows + "\n]}\n")


main()
