// What people type from habit is understood, or answered with what there is instead.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct HabitTests {
  /// Lines that mean the same.
  @Test(arguments: [
    ("plan --no-measure v4 o.gguf Q4_K_M", "plan --no-measure v4 o.gguf --scheme q4_k_m"),
    ("plan --no-measure v4 o.gguf --outtype q8_0", "plan --no-measure v4 o.gguf --scheme q8_0"),
    ("plan --no-measure v4 -o o.gguf q8_0", "plan --no-measure v4 o.gguf --scheme q8_0"),
    ("plan --no-measure v4 --outfile o.gguf", "plan --no-measure v4 o.gguf"),
    ("plan --no-measure -m v4 -o o.ingot", "plan --no-measure v4 o.ingot"),
    ("plan --no-measure o.ingot --model=v4", "plan --no-measure v4 o.ingot"),
    (
      "plan --no-measure v4 o.ingot W8A8 -t 2 -q -v",
      "plan --no-measure v4 o.ingot --scheme int8-channel --threads 2"
    ),
    ("convert v4 o.ingot --dry-run int8", "plan v4 o.ingot --no-measure --scheme int8"),
    ("quantize v4 o W8A8 --dry-run", "plan v4 o --no-measure --scheme W8A8"),
    ("inspect --json v4", "inspect v4 --json"),
    ("formats --no-color", "formats"), ("-V", "--version"), ("-v", "--version"), ("version", "--version"),
    (
      "verify --json v4 v4 --tokens ids.json | grep -v -e _bytes -e second -e date",
      "verify v4 v4 --tokens ids.json --json - | grep -v -e _bytes -e second -e date"
    ),
    (
      "evaluate v4 -c 2 --text t --bytes | cut -c 1-20",
      "evaluate v4 --context 2 --text t --bytes | cut -c 1-20"
    ),
    ("generate tiny --prompt -n -n 12", "generate tiny --prompt=-n --max-tokens 12"),
    (
      "job slurm tiny s --verb calibrate --nodes 2 --text t -c 64",
      "job slurm tiny s --verb calibrate --nodes 2 --text t --context 64"
    ),
    ("generate tiny -p a -n 3 --temp 0", "generate tiny --prompt a --max-tokens 3"),
    (
      "job slurm tiny s --verb calibrate --nodes 2 -f t --chunks 3 -c 64",
      "job slurm tiny s --verb calibrate --nodes 2 --text t --tokens-limit=192 --context 64"
    ),
    (
      "job slurm tiny s -f --verb calibrate --nodes 2 --text t --chunks=-1",
      "job slurm tiny s -f --verb calibrate --nodes 2 --text t"
    ),
    (
      "evaluate v4 --file t --bytes --chunks 1 -c 3 | cut -c 1-20",
      "evaluate v4 --context 3 --tokens-limit 3 --text t --bytes | cut -c 1-20"
    ),
    (
      "evaluate v4 -f t --bytes -c 3 | cut -c 1-20", "evaluate v4 --text t --bytes --context 3 | cut -c 1-20"
    ),
  ])
  func habitsMeanWhatTheySay(habit: String, ours: String) throws {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3]]}"#)
    try shell.write("t", "abcdef")
    let (a, b) = (try shell.run("smelt \(habit)"), try shell.run("smelt \(ours)"))
    #expect(a.exit == 0 && a.stdout == b.stdout && a.stdout.count > 8, "\(a.stderr)\(a.stdout)")
    #expect(try shell.names() == ["ids.json", "t"])
  }

  @Test func resultsAreWrittenByEveryName() throws {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3]]}"#)
    let outcome = try shell.run(
      """
      smelt convert v4 -o a.gguf Q8_0 -q && smelt convert v4 b.gguf --scheme q8_0 -q && cmp a.gguf b.gguf
      smelt convert v4 a.gguf q4_0 -f && smelt convert v4 a.gguf q8_0 --force --silent && cmp a.gguf b.gguf
      smelt calibrate tiny -o s --text tiny/calibration.txt --tokens-limit 512
      smelt quantize tiny c.gguf q4_k_m --imatrix s && smelt quantize tiny d.gguf --scheme q4_k_m --statistics s
      cmp c.gguf d.gguf && smelt logits v4 -o l --tokens ids.json
      smelt convert v4 p --shard 1/1 && smelt join p.parts -o p && smelt inspect p
      smelt verify v4 a.gguf --tokens ids.json --json r && smelt verify v4 a.gguf --tokens ids.json -f --json r
      """)
    #expect(outcome.exit == 0 && outcome.stderr == "", "\(outcome.stderr)")
    #expect(
      try shell.names() == [
        "a.gguf", "b.gguf", "c.gguf", "d.gguf", "ids.json", "l", "p", "p.parts", "r", "s",
      ])
  }

  /// A word behind `compare --json` is the file to write, unless it is a report to read.
  @Test func compareTakesItsWords() throws {
    let shell = Shell()
    try shell.writeReports()
    let expected = try shell.run("smelt compare r.json r2.json --json -")
    #expect(expected.exit == 0, "\(expected.stderr)")
    #expect(try shell.run("smelt compare --json r.json r2.json").stdout == expected.stdout)
    let written = try shell.run(
      """
      smelt compare --json c.json r.json r2.json -q --html c.html --color never && smelt compare r.json r2.json --json > d.json
      cmp c.json d.json && smelt compare --json c.json r.json r2.json -f && smelt compare r.json r2.json --json c.json --force
      """)
    #expect(written.exit == 0 && written.stderr == "", "\(written.stderr)")
    #expect(try shell.names() == ["c.html", "c.json", "d.json", "r.json", "r2.json"])
    let twice = try shell.run("smelt compare r.json r2.json --json x --html x")
    #expect(twice.exit == 64, "\(twice)")
  }

  /// What cannot be understood gets a sentence, in the form of every error.
  @Test(arguments: [
    ("convert v4 -", "'-' as an operand", "a file of that name is ./-"),
    ("inspect -", "'-' as an operand", ""),
    ("evaluate v4 --text -", "'-' for --text", ""), ("evaluate v4 --text=-", "'-' for --text", ""),
    ("convert v4 o --recipe -", "'-' for --recipe", ""),
    ("verify v4 v4 --tokens t --html -", "'-' for --html", ""),
    ("calibrate v4 - --text t", "'-' as an operand", ""), ("convert v4 -o -", "'-' for -o", ""),
    ("convert v4 o a b", "unexpected argument 'b'", "smelt convert --help"),
    ("convert v4 o.gguf q8_0 8", "unexpected argument '8'", "threads are given by -t 8"),
    ("convert v4 o.gguf Q4_K_MM", "unknown scheme 'Q4_K_MM'", "did you mean q4_k_m?"),
    ("convert v4 o.gguf q8_0 --scheme q4_0", "the scheme is 'q8_0' and, by --scheme, 'q4_0'", ""),
    ("convert v4 o.gguf -o p.gguf --scheme q4_0", "the result is 'o.gguf' and, by --output, 'p.gguf'", ""),
    ("quantize v4 Q4_K_M", "'Q4_K_M' is a scheme", "MODEL OUT.gguf Q4_K_M"),
    ("quantize v4 o --bits 4 --for vllm-h100", "--for chooses the scheme", "omit one of them"),
    ("quantize v4 o.ingot int8-channel -f t", "unexpected argument 't'", "--calibration t"),
    ("quantize v4 o.ingot --scheme int8-channel -f t", "unexpected argument 't'", "--calibration t"),
    ("quantize v4 -o o.ingot -f t", "unexpected argument 't'", "--calibration t"),
    (
      "job slurm v4 o.ingot --nodes 2 --verb verify", "--verb verify needs --json FILE",
      "the parts are joined"
    ),
    ("quantize v4 o --scheme q8_0 --for vllm-h100", "--for chooses the scheme", "omit one of them"),
    ("quantize v4 o W8A8 --method nope --calibration t", "unknown method 'nope'", "known: "),
    ("verify v4 v4 --text t --shard 1/2", "--shard needs --json FILE", "the parts go to FILE.parts"),
    ("calibrate v4 s --text t --shard 1/2 --resume", "--shard needs no --resume", "omit it"),
    ("verify v4 v4 -f t", "unexpected argument 't'", "--text t; -f is --overwrite"),
    ("diff v4 v4 -f t", "unexpected argument 't'", "-f is --overwrite"),
    ("evaluate v4 -f", "missing value for '--text <file>'", ""),
    ("generate v4 -f t", "there is no option -f here", "--prompt \"$(cat FILE)\""),
    ("perplexity v4 -f t", "there is no command 'perplexity' here", "smelt evaluate MODEL --text FILE"),
    ("imatrix v4 -f t", "there is no command 'imatrix' here", "smelt calibrate MODEL"),
    ("bench run", "unknown command 'run'", ""),
    ("convert v4 o.gguf --pure", "there is no option --pure here", "--recipe FILE"),
    (
      "convert v4 o.gguf --leave-output-tensor", "there is no option --leave-output-tensor here", ":keep-head"
    ),
    ("convert v4 o --scheem int8", "unknown option '--scheem'", "did you mean --scheme?"),
    ("convert v4 o --scheme", "missing value for '--scheme <scheme>'", ""),
    ("bench modle", "unknown command 'modle'", "did you mean model?"),
    ("job slrum", "unknown command 'slrum'", "did you mean slurm?"),
    ("quantize v4 o --for vllm-h10", "unknown place to run 'vllm-h10'", "did you mean vllm-h100?"),
    ("check v4 --for vlm", "unknown engine 'vlm'", "did you mean vllm?"),
    ("convert v4 o --to safetensor", "unknown kind of result 'safetensor'", "did you mean safetensors?"),
    (
      "convert v4 o.safetensors", "the name 'o.safetensors' has no suffix of a result",
      "give 'o.safetensors/'"
    ),
    ("verify v4 v4 --full", "give --text or --tokens", "smelt verify --help"),
    ("inspect v4 --json r.json", "unexpected argument 'r.json'", "--json > r.json"),
    ("inspect --json r.json v4", "unexpected argument 'v4'", "--json > r.json"),
    ("check v4 --threads x", "the value 'x' is invalid for '--threads <n>'", ""),
    ("quantize v4 o W8A8 --save-statistics s", "--save-statistics needs --calibration", ""),
    ("quantize v4 o --scheme q8_0 --obsrver mse", "unknown option '--obsrver'", "did you mean --observer?"),
    ("quantize --obsrver mse v4 o --scheme int8", "unknown option '--obsrver'", "did you mean --observer?"),
    (
      "quantize v4 o.gguf --scheme IQ2_XXS", "'IQ2_XXS' is read, not written",
      "nearest that suits any model: q2_k"
    ),
    ("convert v4 o.gguf iq3_m", "'iq3_m' is read, not written", "nearest that suits any model: q3_k"),
    (
      "quantize v4 o.gguf UD-Q4_K_XL", "'UD-Q4_K_XL' is a mixture that llama-quantize does not have",
      "nearest: q4_k_m"
    ),
    ("quantize v4 o --scheme gptq-4bit", "'gptq-4bit' is no scheme here", "--method gptq"),
    ("quantize v4 o --scheme AWQ", "'AWQ' is no scheme here", "--method awq"),
    ("quantize v4 o --scheme bnb-nf4", "'bnb-nf4' is no scheme here", "int4-group"),
    ("quantize v4 o --scheme modelopt_fp4", "'modelopt_fp4' is no scheme here", "--layout modelopt"),
    ("quantize v4 o --scheme exl2", "'exl2' is no scheme here", "neither read nor written"),
    ("job slurm v4 o --nodes 2 int8 --nope 5", "unknown option '--nope'", "convert --help"),
    ("job slurm v4 o --nodes 2 --dry-run", "--dry-run in a job", "only printed"),
    ("job slurm v4 o --nodes 2 --shard 1/2", "--shard in a job", "omit it"),
    (
      "convert v4 UD-Q4_K_XL", "'UD-Q4_K_XL' is a mixture that llama-quantize does not have\n",
      "nearest: q4_k_m"
    ),
    (
      "convert v4 iq2_xxs", "'iq2_xxs' is read, not written: smelt has no search for its codes\n",
      "nearest that suits any model: q2_k"
    ),
    (
      "job slurm v4 iq3_m --nodes 2", "'iq3_m' is read, not written: smelt has no search for its codes\n",
      "q3_k"
    ),
    ("convert v4 o.gguf UD-Q8_K_XL", "'UD-Q8_K_XL' is a mixture", "nearest: q8_0"),
    ("convert v4 o.gguf q8_1", "'q8_1' is a type of activations", "nearest: q8_0"),
    ("job slurm v4 o --nodes 2 --scheme nope", "unknown scheme 'nope'", "known: keep"),
    ("job slurm v4 o --nodes 2 --scheme int8 --observer nope", "unknown observer 'nope'", "known: "),
    ("job kubernetes v4 o.ingot --nodes 2 --compression nope", "unknown compression 'nope'", "fast"),
    ("job slurm v4 o --nodes 2 --for nope", "unknown place to run 'nope'", "known: "),
    (
      "job slurm v4 s --verb calibrate --nodes 2 --text t --policy nope", "unknown policy 'nope'", "top-up"
    ),
    ("job slurm v4 s --verb calibrate --nodes 2", "give --text or --tokens", ""),
    (
      "job slurm v4 v4 --verb verify --json r --nodes 2 --text t --profile nope", "unknown profile 'nope'",
      "good"
    ),
    (
      "job kubernetes v4 v4 --verb verify --json r --nodes 2 --text t --as nope", "unknown engine 'nope'", ""
    ),
    (
      "job slurm v4 v4 --verb verify --json r --nodes 2 --text t --compute nope",
      "unknown arithmetic 'nope'", "int8"
    ),
    ("calibrate v4 m.gguf --text t --chunks x", "--chunks is no number of windows", "--tokens-limit"),
    (
      "calibrate v4 m.gguf --text t --process-output", "there is no option --process-output here", "omit it"
    ),
    ("generate v4 --prompt a -ngl 99", "there is no option -ngl here", "runs on the processor"),
  ])
  func theRestIsAnswered(line: String, problem: String, help: String) throws {
    let outcome = try Shell().run("smelt \(line)")
    #expect(outcome.exit == 64 && outcome.stdout == "")
    #expect(outcome.stderr.hasPrefix("error[usage]: \(problem)"), "\(outcome.stderr)")
    let lines = outcome.stderr.split(separator: "\n")
    #expect(
      lines.count == 2 && lines[1].hasPrefix("  help: ") && lines[1].contains(help), "\(outcome.stderr)")
  }

  /// A script whose tasks would refuse their words is not printed, and what is wrong is said of the word that is.
  @Test(arguments: [
    ("job slurm v4 o --nodes 2 --resume", "--resume"),
    ("job slurm v4 o --nodes 2 --attest a.json", "--attest"),
    ("job slurm v4 o.gguf --nodes 2 --for vllm-h100", "vLLM reads a directory"),
    ("job slurm v4 s --verb calibrate --nodes 2 --text t --policy top-up", "--policy top-up"),
    ("job slurm v4 s --verb calibrate --nodes 2 --text t --report r.html", "--report"),
    ("job slurm v4 s --verb calibrate --nodes 2 --text t --parts 0", "--parts must be from 1"),
    ("job slurm v4 v4 --verb verify --json r --nodes 2 --text t --html p", "--html"),
    ("calibrate -f v4 s", "give --text or --tokens"),
    ("calibrate v4 s --text t --chunks 2 -c abc", "--context"),
  ])
  func whatTasksWouldRefuseIsRefused(line: String, word: String) throws {
    let outcome = try Shell().run("smelt \(line)")
    #expect([3, 64].contains(outcome.exit) && outcome.stdout == "", "\(outcome.stdout)")
    #expect(outcome.stderr.contains(word), "\(outcome.stderr)")
  }

  /// A scheme behind the result is understood where a script is asked for.
  @Test func jobsTakeSchemesAsOperands() throws {
    let outcome = try Shell().run("smelt job slurm v4 o --nodes 2 fp8-channel")
    #expect(outcome.exit == 0 && outcome.stdout.contains("fp8-channel"), "\(outcome.stderr)")
  }

  /// One file of weights without a folder is refused with what to give instead.
  @Test func aFileOfSafetensorsIsNoModel() throws {
    let outcome = try Shell().run("smelt inspect v4/model.safetensors")
    #expect(outcome.exit == 2 && outcome.stderr.contains("  help: give the directory that holds it"))
  }

  @Test func rolesOfRecipesGetTheNearest() throws {
    let shell = Shell()
    try shell.write(
      "r.json", #"{"schema": "smelt.recipe/1", "rules": [{"role": "atention", "scheme": "keep"}]}"#)
    let outcome = try shell.run("smelt plan v4 o.ingot --recipe r.json")
    #expect(outcome.exit == 2 && outcome.stderr.contains("did you mean attention?"), "\(outcome.stderr)")
  }

  /// FP8 and NVFP4 in capitals mean more in a directory than elsewhere: that is said.
  @Test(arguments: [
    ("o.ingot", "FP8", "fp8-channel"), ("o.ingot", "NVFP4", "nvfp4"),
  ])
  func capitalWordsAreExplainedOutsideDirectories(result: String, word: String, meaning: String) throws {
    let shell = Shell()
    let warning =
      "warning: \(word) in capitals has static scales of activations, which only a directory holds: here it is \(meaning), of the weights alone"
    #expect(try shell.run("smelt plan v4 \(result) \(word)").stdout.contains(warning))
    #expect(try !shell.run("smelt plan v4 \(result) \(word.lowercased())").stdout.contains("in capitals"))
    #expect(try !shell.run("smelt plan v4 o \(word)").stdout.contains("in capitals"))
    let json = try shell.run("smelt plan v4 \(result) \(word) --json").json()
    #expect(json["warnings"]?.array?.contains { $0.string?.contains("in capitals") == true } == true)
  }

  /// Every name of a scheme and of a place to run is on the page that lists them.
  @Test func formatsListsEveryName() throws {
    let shell = Shell()
    let json = try shell.run("smelt formats --json").json()
    let words = Set(
      try shell.run("smelt formats").stdout.split { " ,;\n".contains($0) }.map(String.init))
    for key in ["scheme_names", "deployments", "families", "encodings"] {
      let names = json[key]?.array?.compactMap(\.string) ?? []
      #expect(names.count > 10 && names.allSatisfy(words.contains), "\(names.filter { !words.contains($0) })")
    }
    #expect(["W8A8", "FP8_DYNAMIC", "q4_k_m", "W4A16_ASYM", "int4-group:32"].allSatisfy(words.contains))
    let help = try shell.run("COLUMNS=100000 smelt convert --help").stdout
    for name in json["scheme_names"]?.array?.compactMap(\.string) ?? [] where !name.hasSuffix(":keep-head") {
      #expect(help.contains(name), "\(name)")
    }
  }
}
