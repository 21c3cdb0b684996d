Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.SelectionTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Selection, Machine, Outcome}

  @moduletag :tmp_dir
  @mend "mend EMILY_VARIANT, or `config :emily, variant:`"

  test "names the variant, and hands it on", %{tmp_dir: tmp} do
    for {wanted, variant, devices, message} <- [
          {nil, "cpu", ["cpu"], "cpu for linux-x86_64: MLX on the CPU, with OpenBLAS"},
          {"cuda12", "cuda12", ["cpu", "gpu"],
           "cuda12 for linux-x86_64: MLX on NVIDIA GPUs, CUDA 12"}
        ] do
      outcome = Selection.run(Machine.well(tmp, variant: {:ok, wanted}), %{})

      assert %Outcome{status: :ok, message: ^message, facts: facts} = outcome
      assert %{artifact: %{variant: ^variant, target: "linux-x86_64"}, devices: ^devices} = facts
    end
  end

  test "refuses what does not exist, and says what does", %{tmp_dir: tmp} do
    windows = %{Machine.host() | os: "nt", target: nil}
    config = "expected config :emily, variant: to be an atom or a string, got: 1"

    cases = [
      {[variant: {:ok, "tpu"}],
       Outcome.error(
         "expected a variant for linux-x86_64 among cpu, cuda12, cuda13, got: tpu",
         @mend
       )},
      {[variant: {:error, config}], Outcome.error(config, @mend)},
      {[host: windows],
       Outcome.error("no target is for nt on x86_64", "build it",
         details: [{"existing", "linux-arm64, linux-x86_64, macos-arm64"}]
       )}
    ]

    for {changes, expected} <- cases do
      assert Selection.run(Machine.well(tmp, changes), %{}) == expected
    end
  end
end
