// swift-tools-version: 6.2
import PackageDescription

/// One settings list for every Swift target: an import is private unless it says otherwise, and a warning is an error.
let swift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// Hot loops are optimized in debug builds too, except where another package builds this one as a dependency: packages with such
/// flags are refused there.
let isDependency = Context.packageDirectory.contains("/checkouts/")
let optimized: [CSetting] = isDependency ? [] : [.unsafeFlags(["-O2"], .when(configuration: .debug))]
let tests: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

/// Whether zstd and libcrypto are named as archives by who links, as `.ci/release` does: modules that name them ask for shared libraries.
let isStatic = Context.environment["SMELT_STATIC"] != nil

let package = Package(
  name: "smelt",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Smelt", targets: ["Smelt"]), .executable(name: "smelt", targets: ["SmeltCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // C: the system's zstd and, for SHA-256 where there is no CryptoKit, OpenSSL's libcrypto (a package of our own of it would be two
    // thirds of a first build); and the hot loops with run-time dispatch (optimized in debug builds too).
    .systemLibrary(
      name: "CZstd", path: isStatic ? "Sources/CZstd/Static" : nil, pkgConfig: isStatic ? nil : "libzstd",
      providers: [.apt(["libzstd-dev"]), .brew(["zstd"])]),
    .systemLibrary(
      name: "COpenSSL", path: isStatic ? "Sources/COpenSSL/Static" : nil,
      pkgConfig: isStatic ? nil : "libcrypto", providers: [.apt(["libssl-dev"])]),
    .target(
      name: "CKernels", cSettings: optimized,
      linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),

    // C: the kernels for each instruction set. Nothing in Swift is compiled against them, so that this minute of CPU time is no part of
    // what the first build waits for; who links depends on them.
    .target(
      name: "CKernelSets", dependencies: ["CKernels"],
      cSettings: optimized + [.headerSearchPath("../CKernels")]),

    // C: transfers by the system's libcurl, which is loaded when a model is fetched. Packages with a client of their own cost minutes
    // of build or 40 MB of tables in a static binary, and what comes with Swift on Linux is libcurl underneath.
    .target(name: "CTransfer", linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),

    // C: the commit of a release, which `.ci/release` says.
    .target(
      name: "CBuild",
      cSettings: Context.environment["SMELT_COMMIT"].map { [.define("SMELT_COMMIT", to: "\"\($0)\"")] } ?? []),

    // The rooms, in dependency order.
    .target(
      name: "SmeltStorage",
      dependencies: ["CKernels", .target(name: "COpenSSL", condition: .when(platforms: [.linux]))],
      swiftSettings: swift),
    .target(name: "SmeltHub", dependencies: ["SmeltStorage", "CTransfer"], swiftSettings: swift),
    .target(
      name: "SmeltTensors", dependencies: ["SmeltStorage", "CKernels"], swiftSettings: swift),
    .target(name: "SmeltTokenizers", dependencies: ["SmeltStorage"], swiftSettings: swift),
    .target(
      name: "SmeltContainers", dependencies: ["SmeltTensors", "SmeltStorage", "CZstd", "CKernels"],
      swiftSettings: swift),
    .target(
      name: "SmeltModels", dependencies: ["SmeltTokenizers", "SmeltTensors", "SmeltStorage", "CKernels"],
      swiftSettings: swift),
    .target(
      name: "SmeltQuantization",
      dependencies: ["SmeltModels", "SmeltTensors", "SmeltStorage", "CKernels"],
      swiftSettings: swift),
    .target(
      name: "SmeltPipeline",
      dependencies: [
        "SmeltContainers", "SmeltModels", "SmeltQuantization", "SmeltTokenizers", "SmeltTensors", "SmeltHub",
        "SmeltStorage", "CKernels",
      ], swiftSettings: swift),
    .target(
      name: "Smelt",
      dependencies: [
        "SmeltPipeline", "SmeltModels", "SmeltQuantization", "SmeltHub", "SmeltStorage", "CKernelSets",
      ],
      swiftSettings: swift),
    .executableTarget(
      name: "SmeltCommand",
      dependencies: [
        "SmeltPipeline", "SmeltHub", "SmeltStorage", "CBuild", "CKernelSets",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: swift),

    // Tests: shared checks, then one target a room, then the command as a user sees it.
    .target(
      name: "SmeltTestSupport", dependencies: ["SmeltTensors", "SmeltStorage", "CKernelSets"],
      path: "Tests/SmeltTestSupport", swiftSettings: tests),
    .testTarget(
      name: "SmeltStorageTests", dependencies: ["SmeltStorage", "SmeltTestSupport", "CKernels"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltHubTests",
      dependencies: ["SmeltHub", "SmeltPipeline", "SmeltQuantization", "SmeltStorage", "SmeltTestSupport"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltTensorsTests",
      dependencies: ["SmeltTensors", "SmeltStorage", "SmeltTestSupport", "CKernels"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltContainersTests",
      dependencies: ["SmeltContainers", "SmeltTensors", "SmeltStorage", "SmeltTestSupport"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltTokenizersTests", dependencies: ["SmeltTokenizers", "SmeltStorage", "SmeltTestSupport"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltModelsTests",
      dependencies: ["SmeltModels", "SmeltTokenizers", "SmeltTensors", "SmeltStorage", "SmeltTestSupport"],
      swiftSettings: tests),
    .testTarget(
      name: "SmeltQuantizationTests",
      dependencies: [
        "SmeltQuantization", "SmeltModels", "SmeltTensors", "SmeltStorage", "SmeltTestSupport",
      ], swiftSettings: tests),
    .testTarget(
      name: "SmeltPipelineTests",
      dependencies: [
        "SmeltPipeline", "SmeltContainers", "SmeltModels", "SmeltQuantization", "SmeltTokenizers",
        "SmeltTensors", "SmeltStorage", "SmeltTestSupport",
      ], swiftSettings: tests),
    .testTarget(
      name: "SmeltTests", dependencies: ["Smelt", "SmeltStorage", "SmeltTestSupport"], swiftSettings: tests),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "SmeltCommand", "SmeltPipeline", "SmeltContainers", "SmeltTensors", "SmeltStorage",
        "SmeltTestSupport",
      ],
      exclude: ["snapshots"], swiftSettings: tests),
  ]
)

// Fuzzing: not part of a normal build, since libFuzzer brings its own main. `.ci/fuzz` sets the variable.
if Context.environment["SMELT_FUZZ"] != nil {
  package.targets.append(
    .executableTarget(
      name: "SmeltFuzz",
      dependencies: [
        "SmeltContainers", "SmeltModels", "SmeltTokenizers", "SmeltTensors", "SmeltStorage", "CKernelSets",
      ],
      path: "Tests/Fuzz", exclude: ["dictionaries"],
      swiftSettings: tests + [.unsafeFlags(["-parse-as-library"])]))
}
