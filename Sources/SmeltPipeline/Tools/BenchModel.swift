// `bench model`: what this machine makes of one real model, and how near it comes to what its cores and its memory allow.
// Formats/report.md, section 19.

import SmeltModels
package import SmeltStorage
import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// One measured phase of a model.
package struct ModelBenchRow: Sendable {
  /// `prefill`, `decode` or `calibrate`.
  package var phase: String
  /// Tokens that one run takes.
  package var tokens: Int
  /// Tokens a second of wall time: the median of the runs.
  package var rate: Double
  /// CPU seconds a token, all threads together: the median of the runs.
  package var cpuSeconds: Double
  /// What the rate is measured against.
  package var limit: BenchLimit
  /// Tokens a second where nothing but the limit held the phase up.
  package var limitRate: Double
}

/// What bounds a phase.
package enum BenchLimit: String, Sendable {
  /// Fused multiply-adds in registers, for the products of a token.
  case peak = "float32 peak"
  /// Reading the bytes of the weights that a token needs.
  case memory = "memory read"
}

/// What `bench model` measured.
package struct ModelBench: Sendable {
  /// The phases in order.
  package var rows: [ModelBenchRow] = []
  /// Threads that ran.
  package var threads = 1
  /// The arithmetic of prefill and decode; calibration is float32's.
  package var compute = Compute.float32
  /// Multiply-adds in registers on all these threads, in GFLOPS; two operations each.
  package var peak = 0.0
  /// Bytes read from memory by all these threads, in GB a second.
  package var memoryRead = 0.0
  /// Numbers that a token multiplies with: all matrices, of routed experts the share that a token takes.
  package var activeParameters = 0
  /// Bytes of these as they are stored.
  package var activeBytes = 0
  /// Peak resident memory of the process, mapped pages included.
  package var peakMemoryBytes = 0

  /// The contract's JSON.
  package func json(_ model: String) -> JSON {
    [
      "schema": "smelt.bench-model/1", "model": JSON(model), "instruction_set": JSON(InstructionSet.current),
      "threads": JSON(threads), "compute": JSON(compute.rawValue), "float32_peak_gflops": JSON(peak),
      "memory_read_gb_per_s": JSON(memoryRead),
      "active_parameters": JSON(activeParameters), "active_bytes": JSON(activeBytes),
      "peak_memory_bytes": JSON(peakMemoryBytes),
      "phases": JSON(
        rows.map { row in
          [
            "phase": JSON(row.phase), "tokens": JSON(row.tokens), "tokens_per_second": JSON(row.rate),
            "cpu_seconds_per_token": JSON(row.cpuSeconds), "limit": JSON(row.limit.rawValue),
            "limit_tokens_per_second": JSON(row.limitRate), "share_of_limit": JSON(row.rate / row.limitRate),
          ]
        }),
    ]
  }
}

/// Runs a model's forward pass over made-up tokens: prompts of each length, single tokens after a short prompt, and a calibration.
/// One run of each that is not counted comes first, so that pages and scratch are there.
/// - Parameters:
///   - prefill: the lengths of prompts, each at least one token.
///   - decode: tokens made one by one; 0 for none.
///   - calibrate: tokens of a calibration, in windows of 512 at most; 0 for none.
///   - passes: runs that are counted.
/// - Throws: `RequestError` unsupported for a model without a forward pass, interrupted; refusals of the model's content.
package func benchModel(
  _ model: Model, prefill: [Int], decode: Int, calibrate calibrated: Int, passes: Int, _ options: RunOptions
) throws -> ModelBench {
  try model.requireForwardPass()
  var result = ModelBench(threads: options.parallel.threads, compute: options.compute)
  let (parameters, bytes) = try model.activeWeights()
  (result.activeParameters, result.activeBytes) = (parameters, bytes)
  var times: [(phase: String, tokens: Int, limit: BenchLimit, wall: Double, cpu: Double)] = []
  func add(_ phase: String, _ tokens: Int, _ limit: BenchLimit, _ time: (wall: Double, cpu: Double)) {
    times.append((phase, tokens, limit, time.wall, time.cpu))
  }
  let tally = IntegerTally()
  let ids = madeUpTokens(max(prefill.max() ?? 1, calibrated, 16), model.family.dimensions.vocabulary)
  for length in prefill {
    let time = try medianTime(passes) {
      try ModelRun(model, .withinLayers, tally, options).take(Array(ids[..<length]))
    }
    add("prefill", length, .peak, time)
  }
  if decode > 0 {
    let run = try ModelRun(model, .always, tally, options)
    _ = try run.take(Array(ids[..<16]))
    run.mark()
    let time = try medianTime(passes) {
      // Behind the same prompt each time: a longer context costs more.
      run.rollBack()
      var next = ids[0]
      for _ in 0..<decode { next = try run.take([next]) }
    }
    add("decode", decode, .memory, time)
  }
  if calibrated > 0 {
    let context = min(512, calibrated)
    let windows = Windows(
      stride(from: 0, to: calibrated / context * context, by: context).map { Array(ids[$0..<$0 + context]) },
      context: context)
    let folder = try makeTemporaryFolder("smelt-bench")
    defer { rmdir(folder) }
    let path = joinPath(folder, "statistics.safetensors")
    let text = joinPath(folder, "text")  // statistics name their text by its hash
    defer { for file in [path, text] { removeFile(file) } }
    try writeFile(text, Array("made-up tokens".utf8), overwrite: false)
    let time = try medianTime(passes) {
      _ = try calibrate(
        model, windows, textPath: text, to: path, overwrite: true, options)
    }
    add("calibrate", windows.tokenCount, .peak, time)
  }
  try model.checkUnchanged()
  if options.compute == .int8 { tally.report(to: options.progress) }
  result.peakMemoryBytes = peakMemoryBytes()  // before the walk over memory that follows
  result.peak = measuredPeak(options.parallel)
  result.memoryRead = measuredMemoryRead(options.parallel)
  let limits: [BenchLimit: Double] = [
    .peak: result.peak * 1e9 / (2 * Double(max(1, parameters))),
    .memory: result.memoryRead * 1e9 / Double(max(1, bytes)),
  ]
  result.rows = times.map { time in
    ModelBenchRow(
      phase: time.phase, tokens: time.tokens, rate: Double(time.tokens) / time.wall,
      cpuSeconds: time.cpu / Double(time.tokens), limit: time.limit, limitRate: limits[time.limit]!)
  }
  return result
}

/// A model that takes tokens and remembers them.
private final class ModelRun {
  private let model: Model
  private let cache: WeightCache
  private let weights: any Weights
  private let state = DecodingState()
  private let pass: Pass

  init(_ model: Model, _ reuse: WeightReuse, _ tally: IntegerTally, _ options: RunOptions) throws {
    self.model = model
    cache = WeightCache([model], reuse, options)
    weights = try model.multiplying(cache.weights(), as: options.compute, tally)
    pass = Pass(parallel: options.parallel, state: state)
  }

  /// Runs some tokens; gives the likeliest next one.
  @discardableResult func take(_ ids: [Int]) throws -> Int {
    try Interrupt.check()
    return try next(model.family, weights, ids)
  }

  /// Remembers where the text is, so that `rollBack` can take back what follows.
  func mark() { state.mark() }

  /// Takes back what followed the mark.
  func rollBack() { _ = state.rollBack(keeping: 0) }

  private func next(_ family: some ModelFamily, _ weights: some Weights, _ ids: [Int]) throws -> Int {
    let x = try lastStream(family, weights, cache, ids, pass, state)
    let logits = try family.logits(x[x.rows - 1..<x.rows], weights, pass)
    return logits.values.withUnsafeBufferPointer { Metrics.top($0, 1).first ?? 0 }
  }
}

extension Model {
  /// What one token multiplies with: parameters, and their bytes as stored. Of routed experts, the share that a token takes;
  /// embeddings and draft blocks not.
  fileprivate func activeWeights() throws -> (parameters: Int, bytes: Int) {
    let dimensions = family.dimensions
    var (shared, routed) = ((parameters: 0, bytes: 0), (parameters: 0, bytes: 0))
    for weight in try storedWeights() where weight.spec.isMultiplied && !weight.spec.isDraft {
      let parameters = weight.spec.shape.count
      if weight.spec.role.isRouted {
        routed.parameters += parameters
        routed.bytes += weight.byteCount
      } else {
        shared.parameters += parameters
        shared.bytes += weight.byteCount
      }
    }
    let share = Double(dimensions.expertsPerToken) / Double(max(1, dimensions.experts))
    return (
      shared.parameters + Int(share * Double(routed.parameters)),
      shared.bytes + Int(share * Double(routed.bytes))
    )
  }
}

/// Ids from all over a vocabulary, the same in every run: a linear congruential sequence.
private func madeUpTokens(_ count: Int, _ vocabulary: Int) -> [Int] {
  var state: UInt64 = 1
  return (0..<count).map { _ in
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(max(1, vocabulary)))
  }
}

/// The median wall and CPU seconds of a call, after one that is not counted.
private func medianTime(_ passes: Int, _ body: () throws -> Void) rethrows -> (wall: Double, cpu: Double) {
  try body()
  var (walls, cpus) = ([Double](), [Double]())
  for _ in 0..<max(1, passes) {
    let (wall, cpu) = (monotonicSeconds(), processorSeconds())
    try body()
    walls.append(monotonicSeconds() - wall)
    cpus.append(processorSeconds() - cpu)
  }
  return (walls.sorted()[walls.count / 2], cpus.sorted()[cpus.count / 2])
}
