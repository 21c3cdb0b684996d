Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.FilesTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Checksum, Targets}
  alias Emily.Doctor.{Checks.Files, Machine, Outcome}

  @moduletag :tmp_dir
  @reinstall "mix compile.emily --force"

  setup %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    %{machine: machine, priv: machine.priv, facts: Machine.facts(machine)}
  end

  test "accepts what was released, and hands its manifest on", %{machine: machine, facts: facts} do
    assert Files.run(machine, facts) ==
             Outcome.ok("2 files of #{Targets.version()}, as released",
               facts: %{origin: :release, manifest: Machine.manifest()}
             )
  end

  test "names every file that differs, with what was expected", context do
    %{machine: machine, priv: priv, facts: facts} = context
    message = &"not as released: #{&1} of 2 files in priv/"

    cases = [
      {fn -> File.write!("#{priv}/libmlx.so", "MLX itselF") end, 1,
       {"libmlx.so",
        "expected sha256 #{Checksum.of("MLX itself")}\ngot: #{Checksum.of("MLX itselF")}"}},
      {fn -> File.write!("#{priv}/libmlx.so", "MLX") end, 1,
       {"libmlx.so", "expected 10 bytes, got: 3"}},
      {fn -> File.rm!("#{priv}/libmlx.so") end, 1, {"libmlx.so", "missing"}}
    ]

    for {damage, count, detail} <- cases do
      damage.()

      assert Files.run(machine, facts) ==
               Outcome.error(message.(count), @reinstall, details: [{"path", priv}, detail])
    end

    File.rm!("#{priv}/libemily.so")

    assert Files.run(machine, facts) ==
             Outcome.error(message.(2), @reinstall,
               details: [{"path", priv}, {"libemily.so", "missing"}, {"libmlx.so", "missing"}]
             )
  end

  test "refuses a manifest that is another's, damaged or unreadable", context do
    %{machine: machine, priv: priv, facts: facts} = context
    path = Path.join(priv, "manifest.json")
    message = "manifest.json is not the one of the chosen variant"

    Machine.install(priv, %{Machine.manifest() | variant: "cuda12"})

    assert Files.run(machine, facts) ==
             Outcome.error(message, @reinstall,
               details: [
                 {"path", path},
                 {"field", "variant"},
                 {"expected", "cpu"},
                 {"actual", "cuda12"}
               ]
             )

    File.write!(path, "{")

    assert Files.run(machine, facts) ==
             Outcome.error(message, @reinstall,
               details: [{"path", path}, {"expected", "JSON"}, {"actual", ~S("{")}]
             )

    File.rm!(path)
    File.mkdir!(path)

    assert Files.run(machine, facts) ==
             Outcome.error("manifest.json cannot be read", @reinstall,
               details: [{"path", path}, {"reason", "illegal operation on a directory"}]
             )
  end

  test "without a manifest, a checkout is built from source and a project has nothing", context do
    %{machine: machine, priv: priv, facts: facts} = context
    checkout = %{machine | checkout?: true, reinstall: "cargo xtask nif"}
    File.rm!("#{priv}/manifest.json")

    assert Files.run(checkout, facts) ==
             Outcome.ok("built here from source", facts: %{origin: :source})

    assert Files.run(machine, facts) ==
             Outcome.error("nothing is installed", @reinstall, details: [{"path", priv}])

    File.rm!("#{priv}/libemily.so")

    assert Files.run(checkout, facts) ==
             Outcome.error("libemily.so is not built", "cargo xtask nif",
               details: [{"path", priv}]
             )
  end

  test "names what an interrupted install left behind", context do
    %{machine: machine, priv: priv, facts: facts} = context
    staging = "#{priv}/.staging-0a1b"
    File.mkdir!(staging)
    assert %Outcome{status: :ok, details: details} = Files.run(machine, facts)
    assert details == [{"interrupted", "#{staging}, which the next install removes"}]

    File.rename!(staging, "#{priv}/.next")

    assert Files.run(machine, facts) ==
             Outcome.error("an install was interrupted, and waits to be finished", @reinstall,
               details: [{"path", priv}]
             )
  end
end
