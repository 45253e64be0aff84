// `bench model`: the forward pass of a real model on this machine.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct BenchModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model", abstract: "Measures prefill, decode and calibration of a model of yours.",
    discussion: """
      Rates are tokens a second of wall time, the median of the runs after one
      that is not counted; tokens are made up. Beside each stands what this
      machine allows, measured in the same run on as many threads: prompts and
      calibration against fused multiply-adds in registers, single tokens
      against reading the weights that a token needs.

      Example: smelt bench model DIR --prefill 512,2048 --decode 64 --threads 1
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Option(
    name: .long,
    help: ArgumentHelp("Lengths of prompts, with commas between them; 0 for none.", valueName: "tokens"))
  var prefill = "512"
  @Option(name: .long, help: ArgumentHelp("Tokens made one by one; 0 for none.", valueName: "tokens"))
  var decode = 64
  @Option(name: .long, help: ArgumentHelp("Tokens of a calibration; 0 for none.", valueName: "tokens"))
  var calibrate = 0
  @Option(name: .long, help: ArgumentHelp("How often each figure is measured.", valueName: "n"))
  var passes = 3
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  private func lengths() throws -> [Int] {
    let lengths = prefill.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    guard lengths.allSatisfy({ $0.map { (0...1_048_576).contains($0) } ?? false }) else {
      throw ValidationError(
        "--prefill is '\(prefill)', expected numbers of tokens with commas between them, as in 512,2048")
    }
    return lengths.compactMap { $0 }.filter { $0 > 0 }
  }

  func validate() throws {
    let lengths = try lengths()
    for (name, value, range) in [
      ("--decode", decode, 0...1_048_576), ("--calibrate", calibrate, 0...16_777_216),
      ("--passes", passes, 1...1000),
    ] where !range.contains(value) {
      throw ValidationError("\(name) is \(value), expected \(range.lowerBound) to \(range.upperBound)")
    }
    guard !lengths.isEmpty || decode > 0 || calibrate > 0 else {
      throw RequestError(
        .usage, "nothing is left to measure", help: "give --prefill, --decode or --calibrate above 0")
    }
  }

  func run() throws {
    let opened = try opening.open(model)
    let result = try benchModel(
      opened, prefill: try lengths(), decode: decode, calibrate: calibrate, passes: passes,
      try compute.run(common.run))
    var table = Table(["phase", "tokens", "tokens/s", "CPU ms/token", "limit", "tokens/s", "share"])
    for row in result.rows {
      table.add([
        row.phase, grouped(row.tokens), fixed(row.rate, 1), fixed(1000 * row.cpuSeconds, 2),
        row.limit.rawValue,
        fixed(row.limitRate, 1), "\(fixed(100 * row.rate / row.limitRate, 0)) %",
      ])
    }
    try output.show(
      result.json(model),
      table.text
        + "\nA token multiplies with \(grouped(result.activeParameters)) parameters, \(byteText(result.activeBytes)). "
        + "Peak \(fixed(result.peak, 0)) GFLOPS,\nmemory read \(fixed(result.memoryRead, 1)) GB/s; "
        + "\(InstructionSet.current), \(result.compute.rawValue), \(result.threads == 1 ? "one thread" : "\(result.threads) threads"), "
        + "peak memory \(byteText(result.peakMemoryBytes)).")
  }
}
