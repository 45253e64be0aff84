// `bench`: what this machine makes of the kernels and of the codecs.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measures this machine: kernels (unless another is named), codecs, or a model of yours.",
    discussion: """
      Kernels and codecs run on one core. Figures, no verdict.

      Examples:
        smelt bench
        smelt bench codec --input model.safetensors
        smelt bench model DIR --threads 1
      """,
    subcommands: [BenchKernelsCommand.self, BenchCodecCommand.self, BenchModelCommand.self],
    defaultSubcommand: BenchKernelsCommand.self)
}

struct BenchKernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels", abstract: "Measures the kernels against this machine's float32 peak.",
    discussion: "Example: smelt bench kernels --json")

  @OptionGroup var output: JSONOption

  func run() throws {
    let rows = bench()
    var table = Table(["kernel", "rate", "unit", "share"])
    for row in rows {
      let share =
        row.share.map { "\(fixed(100 * $0, 0)) % of peak" }
        ?? row.shareOfReads.map { "\(fixed(100 * $0, 0)) % of reads" } ?? ""
      table.add([row.name, fixed(row.value, 1), row.unit, share])
    }
    try output.show(benchReport(rows), table.text)
  }
}

struct BenchCodecCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "codec", abstract: "Measures what an ingot's codecs make of weights, and how fast.",
    usage: "smelt bench codec [<options>]",
    discussion: """
      Ratio is stored bytes over content. Rates are GB of content a second, the median of all passes, warm, from memory to
      memory; copy is a plain copy of the same bytes in the same run. Without --input the weights are generated: normal,
      and Student's t with five degrees of freedom.

      Example: smelt bench codec --input model.safetensors --json
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A safetensors file whose weights are measured: as they are, and cast to narrower types.",
      valueName: "file"), completion: .file())
  var input: String?

  @Option(name: .long, help: ArgumentHelp("How often each figure is measured.", valueName: "n"))
  var passes = 7

  @OptionGroup var output: JSONOption

  func validate() throws {
    guard (1...1000).contains(passes) else {
      throw ValidationError("--passes is \(passes), expected 1 to 1000")
    }
  }

  func run() throws {
    let result = try benchCodecs(input: input, passes: passes)
    var table = Table(["weights", "kind", "codec", "MB", "ratio", "encode GB/s", "decode GB/s", "copy GB/s"])
    for row in result.rows {
      table.add([
        row.source, row.kind, row.codec, fixed(Double(row.bytes) / 1e6, 1), fixed(row.ratio, 4),
        fixed(row.encode, 2),
        fixed(row.decode, 2), fixed(row.copy, 2),
      ])
    }
    try output.show(
      [
        "schema": "smelt.bench-codec/1", "instruction_set": JSON(result.instructionSet),
        "passes": JSON(result.passes),
        "crc32c_gb_per_s": JSON(result.crc32c),
        "codecs": JSON(
          result.rows.map { row in
            [
              "weights": JSON(row.source), "kind": JSON(row.kind), "codec": JSON(row.codec),
              "bytes": JSON(row.bytes),
              "ratio": JSON(row.ratio), "encode_gb_per_s": JSON(row.encode),
              "decode_gb_per_s": JSON(row.decode),
              "copy_gb_per_s": JSON(row.copy),
            ]
          }),
      ],
      table.text
        + "\nCRC-32C of chunks: \(fixed(result.crc32c, 1)) GB/s. \(result.instructionSet), one core, "
        + "median of \(result.passes) passes.")
  }
}
