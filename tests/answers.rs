//! Why answers end.

use std::ops::ControlFlow;

use loam::chat::Message;
use loam::engine::AdapterHandle;
use loam::generate::sampler::SamplerOptions;
use loam::generate::{Answer, AnswerOptions, GenerateOptions, Stop, prompt};
use loam::{Base, Engine, Session, backend};
use xtask::sources::root;

/// The demo's model, which ends its answers.
fn base() -> (tempfile::TempDir, Base) {
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("base.gguf");
    let recipe = loam_convert::Recipe::named("q8_0").expect("known");
    let source = root().join("targets/cli/assets/loam-tiny");
    loam_convert::convert(&source, &out, &loam_convert::Options::new(recipe), &mut |_| ()).expect("converts");
    let base = Base::open(&out).expect("a base");
    (folder, base)
}

#[test]
fn only_a_context_that_ended_the_answer_is_its_end() {
    let (_folder, base) = base();
    let device = pollster::block_on(backend::select::open("cpu", &backend::Options::default())).expect("a CPU");
    let mut engine = Engine::new(&base, device).expect("an engine");
    let question = prompt(&base, &[Message::new("user", "How is your dog called?")]).expect("a prompt");
    let mut answer = |context: usize, max_tokens: usize| -> Answer {
        let handle = AdapterHandle::none();
        let mut session = pollster::block_on(Session::new(&mut engine, context, &handle)).expect("a session");
        let generate = GenerateOptions { max_tokens, sampler: SamplerOptions::greedy() };
        let options = AnswerOptions { generate, stops: Vec::new() };
        let mut show = |_: &str| ControlFlow::Continue(());
        let tokenizer = base.tokenizer().expect("a tokenizer");
        let answer = session.answer(&mut engine, tokenizer, &question, &options, &mut show);
        pollster::block_on(answer).expect("an answer")
    };
    let free = answer(question.len() + 200, 200);
    let count = free.ids.len();
    assert!(free.stop == Stop::End && count > 3, "{free:?}");
    // The last token of the answer takes the last place of the context, and the model ends there.
    assert_eq!(answer(question.len() + count, 200).stop, Stop::End);
    let cut = answer(question.len() + count - 2, 200);
    assert_eq!((cut.stop, cut.ids.len()), (Stop::Context, count - 1));
    assert_eq!(answer(question.len() + 200, count).stop, Stop::Length);
    assert_eq!(answer(question.len() + 200, count + 1).stop, Stop::End);
    // As many tokens as the context has places: the number that was asked for is reached.
    assert_eq!(answer(question.len() + count - 2, count - 1).stop, Stop::Length);
}
