// SMELT_ISA: every instruction set of the machine makes the same bytes, and another word is refused before anything is done.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct InstructionSetTests {
  /// What the machine runs, as the command says.
  private func available() throws -> [String] {
    let sets = try Shell().run("smelt formats --json").json()["instruction_sets"]?.array ?? []
    return sets.compactMap(\.string)
  }

  /// Codecs, products, norms, routers, quantizers: whatever has kernels leaves its bytes in a file.
  @Test func everyInstructionSetMakesTheSameBytes() throws {
    let script = """
      set -e
      i=0; ids=
      while [ $i -lt 70 ]; do ids="$ids$((i * 37 % 96)),"; i=$((i + 1)); done
      echo "{\\"sequences\\": [[${ids}5],[1,2,3]]}" > t.json
      smelt logits v4 a.safetensors --tokens t.json --hidden-states --routing
      smelt logits fp4 b.safetensors --tokens t.json --hidden-states --routing
      smelt convert v4 c.ingot --compression small
      smelt convert v4 d.ingot --scheme int8-coded
      smelt convert v4 e.gguf --scheme q8_0
      smelt convert fp4 f --scheme fp8-channel
      smelt calibrate tiny h.safetensors --text tiny/calibration.txt --tokens-limit 64 --context 32
      smelt check c.ingot
      """
    let words = try available()
    #expect(words.contains("baseline"))
    var expected: [String: String]?
    for word in words {
      let shell = Shell()
      let outcome = try shell.run("export SMELT_ISA=\(word)\n\(script)")
      #expect(outcome.exit == 0, "\(word): \(outcome.stderr)")
      var hashes: [String: String] = [:]
      for name in try shell.names() {
        let isFolder = pathKind(shell.file(name)) == .directory
        for path in try isFolder ? namesInFolder(shell.file(name)).map({ joinPath(name, $0) }) : [name] {
          hashes[path] = SHA256.hex(try MappedFile(path: shell.file(path)).bytes)
        }
      }
      #expect(hashes.count > 7, "\(hashes.keys)")
      if let expected { #expect(hashes == expected, "\(word)") } else { expected = hashes }
    }
  }

  @Test func itIsShownAndOtherWordsAreRefused() throws {
    let words = try available()
    for word in words {
      let outcome = try Shell().run(
        "SMELT_ISA=\(word) smelt bench codec --input v4/model.safetensors --passes 1 --json")
      let shown = try #require(outcome.json()["instruction_set"]?.string)
      #expect(
        shown.lowercased().filter { $0.isLetter || $0.isNumber } == word.filter { $0.isLetter || $0.isNumber }
      )
    }
    for word in ["sse9", "avx", "baseline ", "$(printf '\\033')"] {
      let outcome = try Shell().run("SMELT_ISA=\"\(word)\" smelt convert v4 x.ingot")
      #expect(outcome.exit == 64 && outcome.stdout == "", "\(outcome.stderr)")
      #expect(outcome.stderr.hasPrefix("error[usage]: SMELT_ISA is '"), "\(outcome.stderr)")
      #expect(
        outcome.stderr.contains("help: this machine runs baseline") && !outcome.stderr.contains("\u{1B}"))
    }
    #expect(try Shell().run("SMELT_ISA= smelt formats").exit == 0)
    // One of the other machines' is known, and refused all the same.
    let foreign = words.contains("neon") ? "avx2" : "neon"
    let outcome = try Shell().run("SMELT_ISA=\(foreign) smelt formats")
    #expect(
      outcome.exit == 64 && outcome.stderr.contains("which this machine does not have"), "\(outcome.stderr)")
  }
}
