// `plan`: what a run will take of the machine. Memory and disk are bounds that hold; time is an estimate from a moment's measurement.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// What a quantization does beside the conversion.
package struct PlannedCalibration: Sendable {
  /// The windows that run.
  let windows: Windows
  /// What chooses codes and scales.
  let method: MethodOptions?
  /// What becomes of starved experts.
  let policy: CalibrationPolicy

  /// A calibration as `quantize` would run it.
  package init(_ windows: Windows, _ method: MethodOptions?, _ policy: CalibrationPolicy) {
    (self.windows, self.method, self.policy) = (windows, method, policy)
  }
}

/// What a run takes: memory, disk, time.
package struct Forecast: Sendable {
  /// A part of the work.
  package struct Stage: Sendable {
    /// What it does.
    let name: String
    /// How long it takes, by the rates of this machine.
    let seconds: Double
  }

  /// What each part takes.
  package private(set) var stages: [Stage] = []
  /// The most resident memory, pages of mapped files included.
  package private(set) var memoryBytes: Int
  /// Memory that there is; nil where it does not say.
  package let availableMemoryBytes: Int?
  /// The most bytes of all files of the result.
  package private(set) var resultBytes: Int
  /// The most bytes beside the result while it is made: activations, statistics, weights that a method chose.
  package private(set) var spillBytes = 0
  /// The folder of both.
  package let folder: String
  /// What is free there; nil where it does not say.
  package let freeBytes: Int?

  /// Pages of the program and of its libraries, a little more than a static one has.
  static let programBytes = 40 << 20

  /// All stages.
  package var seconds: Double { stages.reduce(0) { $0 + $1.seconds } }
  /// Whether memory and disk hold the run, as far as they say what they have.
  package var fits: Bool {
    resultBytes + spillBytes <= freeBytes ?? .max && memoryBytes <= availableMemoryBytes ?? .max
  }

  /// What a run of a plan takes.
  /// - Parameters:
  ///   - result: its path.
  ///   - budget: what decides the schemes in the plan's place.
  /// - Throws: refusals of the model's content.
  package init(
    _ model: Model, _ plan: Plan, to result: String, calibration: PlannedCalibration?, budget: Budget?,
    _ options: ConvertOptions
  ) throws {
    folder = parentFolder(withoutSlash(result))
    freeBytes = freeDiskBytes(folder)
    availableMemoryBytes = SmeltStorage.availableMemoryBytes()
    // The program itself, whose pages count as well.
    memoryBytes = plan.peakMemoryBytes + Forecast.programBytes
    resultBytes = try plan.bytesOut + plan.restBound(model)
    if case .bytes(let bytes)? = budget?.size { resultBytes = bytes }
    if case .bits(let bits)? = budget?.size {
      let parameters = plan.weights.reduce(0) { $0 + $1.stored.spec.shape.count }
      resultBytes = try Int(bits * Double(parameters) / 8) * 33 / 32 + plan.restBound(model)
    }
    let work = ForecastWork(model, plan, options)
    let rates = MachineRates(options.run.parallel, folder: folder)
    if let calibration {
      let pass = work.pass(calibration.windows, streams: 1, cached: budget == nil)
      stages.append(Stage(name: "calibrate", seconds: pass.operations / rates.productOperations))
      spillBytes += pass.spilled + work.statisticsBytes
      // A checkpoint holds the activations once more, the one before it until it is whole.
      let seconds = stages.last?.seconds ?? 0
      if seconds > options.checkpointSeconds / 8 { spillBytes += 2 * pass.activations + work.statisticsBytes }
      memoryBytes = max(memoryBytes, pass.memory)
      var method = calibration.method
      if budget == nil, method?.isOpen == true { method = try method?.settled(for: model, options) }
      if let budget {
        let one = work.pass(calibration.windows, limit: Budget.tokens, streams: 3, cached: true)
        let choices = try budget.measuredCount(options.target)
        stages.append(
          Stage(
            name: "measure schemes",
            seconds: Double(choices) * (Double(work.rolesPerLayer) * one.operations / rates.productOperations)
              + work.roundingSeconds(rates) * Double(choices)))
        memoryBytes = max(memoryBytes, one.memory)
      }
      if let method, method.needsInputs {
        let methods = work.method(method, calibration.windows)
        stages.append(
          Stage(name: method.method.rawValue, seconds: methods.operations / rates.productOperations))
        spillBytes += methods.spilled
        memoryBytes = max(memoryBytes, methods.memory)
      }
    }
    stages.append(
      Stage(
        name: "convert",
        seconds: work.roundingSeconds(rates) + work.packingSeconds(rates, resultBytes)
          + Double(plan.bytesIn) / 2e9 + Double(resultBytes) / rates.diskBytes))
  }

  /// For machines.
  package var json: JSON {
    [
      "memory_bytes": JSON(memoryBytes),
      "available_memory_bytes": availableMemoryBytes.map { JSON($0) } ?? JSON(.null),
      "result_bytes": JSON(resultBytes), "spill_bytes": JSON(spillBytes), "folder": JSON(folder),
      "free_bytes": freeBytes.map { JSON($0) } ?? JSON(.null), "seconds": JSON(seconds),
      "stages": JSON(stages.map { ["name": JSON($0.name), "seconds": JSON($0.seconds)] }), "fits": JSON(fits),
    ]
  }

  /// For people.
  package var text: String {
    var table = Table(["takes at most", "bytes", "there is"])
    table.add([
      "memory", byteText(memoryBytes), availableMemoryBytes.map { "\(byteText($0)) available" } ?? "",
    ])
    table.add(["result", byteText(resultBytes), ""])
    table.add(["temporary files", byteText(spillBytes), ""])
    table.add([
      "disk of \(printable(folder))", byteText(resultBytes + spillBytes),
      freeBytes.map { "\(byteText($0)) free" } ?? "",
    ])
    let parts =
      stages.count > 1
      ? " (" + stages.map { "\($0.name) \(durationText($0.seconds))" }.joined(separator: ", ") + ")" : ""
    return table.text + "\n"
      + (fits ? "fits: " : "does not fit: ")
      + "about \(durationText(seconds))\(parts), as busy as the machine is now"
  }
}

extension ConvertOptions {
  /// The same with the smallest choice of a budget, for plans: what it will choose is not known before it has measured.
  /// - Throws: `RequestError` usage where nothing meets the budget.
  package func smallest(_ budget: Budget, _ model: Model) throws -> ConvertOptions {
    var options = self
    options.recipe = try budget.smallestRecipe(model, self)
    return options
  }
}
