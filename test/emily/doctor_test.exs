Code.require_file("doctor/machine.exs", __DIR__)

defmodule Emily.DoctorTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor
  alias Emily.Doctor.{Check, Machine, Outcome, Report, Text}

  @moduletag :tmp_dir

  defmodule Answer do
    @moduledoc "A check whose outcome the test puts into the environment's place."
    @behaviour Emily.Doctor.Check

    @impl true
    def run(%{info: answer}, facts), do: answer.(facts)
  end

  defp statuses(report),
    do: for({check, outcome} <- report.entries, do: {check.id, outcome.status})

  test "a machine that is well passes every check", %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    {:ok, cache} = machine.cache
    report = Doctor.run(machine)

    assert Report.exit_status(report) == 0

    assert Text.render(report) == """
           Emily 0.8.0

             ok       Elixir and OTP          Elixir 1.18.3, OTP 27, NIF 2.17
             ok       Variant and target      cpu for linux-x86_64: MLX on the CPU, with OpenBLAS
             ok       Download cache          #{cache.folder}, 21.0 GiB free
             ok       Installed files         2 files of #{Machine.manifest().version}, as released
             ok       Signature               signed by the key 79656B796C696D65
             ok       System versions         glibc 2.41 (needs 2.35), GLIBCXX 3.4.33 (needs 3.4.30), NIF 2.17 (needs 2.17)
             ok       Shared libraries        2 of 2 found
             ok       Native library          libemily.so is loaded
             ok       MLX                     MLX 0.32.2 on cpu
             ok       Computation             right on cpu
             ok       Nx work stays on Emily  2 of 2 operations
             ok       BLAS                    OpenBLAS, 70.0 GFLOP/s
             ok       Fusion                  fuse: true works on the CPU, with g++ (Debian 14.2.0-19) 14.2.0

           Emily is ready: 13 ok, 0 errors
           """
  end

  test "the table names only checks that come before", %{tmp_dir: _tmp} do
    Enum.reduce(Doctor.checks(), [], fn check, before ->
      assert check.needs -- before == [], "#{check.id} needs what has not run"
      assert check.id not in before
      [check.id | before]
    end)
  end

  test "what fails keeps from running what needs it, and nothing else", %{tmp_dir: tmp} do
    never = fn -> flunk("a check ran that needed one that failed") end
    dead = [info: never, backend: never, matmul_rates: never, smoke: fn _device -> never.() end]
    all = for check <- Doctor.checks(), do: check.id

    cases = [
      {[elixir: "1.17.0", load: never] ++ dead, :runtime,
       [:load, :devices, :smoke, :backend, :blas]},
      {[variant: {:ok, "tpu"}, load: never] ++ dead, :selection,
       [:files, :signature, :floors, :libraries, :load, :devices, :smoke, :backend, :blas]},
      {[user_id: -1], :cache, [:signature]},
      {[priv: "/nowhere", load: never] ++ dead, :files,
       [:floors, :libraries, :load, :devices, :smoke, :backend, :blas]},
      {[host: %{Machine.host() | glibc: "2.34"}, load: never] ++ dead, :floors,
       [:load, :devices, :smoke, :backend, :blas]},
      {[host: %{Machine.host() | libraries: %{}}, load: never] ++ dead, :libraries,
       [:load, :devices, :smoke, :backend, :blas]},
      {[load: fn -> {:error, "no"} end] ++ dead, :load, [:devices, :smoke, :backend, :blas]},
      {[smoke: fn :cpu -> {:ok, {1, 2}} end, backend: never, matmul_rates: never], :smoke,
       [:backend, :blas]}
    ]

    for {changes, failed, skipped} <- cases do
      report = Doctor.run(Machine.well(tmp, changes))

      expected =
        for id <- all do
          cond do
            id == failed -> {id, :error}
            id in skipped -> {id, :skipped}
            true -> {id, :ok}
          end
        end

      assert statuses(report) == expected
      assert Report.exit_status(report) == 1
    end
  end

  describe "run/2" do
    @first %Check{id: :first, title: "The first", module: Answer}
    @second %Check{id: :second, title: "The second", module: Answer}
    @third %Check{id: :third, title: "Third", module: Answer, needs: [:first, :second]}

    test "hands on the facts of what a check needs", %{tmp_dir: tmp} do
      answer = fn facts -> Outcome.ok(inspect(facts), facts: %{seen: map_size(facts)}) end
      report = Doctor.run(Machine.well(tmp, info: answer), [@first, @second, @third])

      assert [_first, _second, {@third, outcome}] = report.entries
      assert outcome.message == "%{first: %{seen: 0}, second: %{seen: 0}}"
    end

    test "runs what needs a check that only warned", %{tmp_dir: tmp} do
      answer = fn _facts -> Outcome.warning("slow", "be patient") end
      report = Doctor.run(Machine.well(tmp, info: answer), [@first, @second, @third])

      assert statuses(report) == [first: :warning, second: :warning, third: :warning]
      assert Report.status(report) == :warning
      assert Report.exit_status(report) == 0
    end

    test "says all that a skipped check waits for", %{tmp_dir: tmp} do
      answer = fn _facts -> Outcome.error("no", "say yes") end
      report = Doctor.run(Machine.well(tmp, info: answer), [@first, @second, @third])

      assert List.last(report.entries) ==
               {@third, Outcome.skipped("needs The first, The second")}
    end

    test "survives a check that fails in a way it did not foresee", %{tmp_dir: tmp} do
      next = "report it: https://github.com/ausimian/emily/issues"

      for {answer, reason} <- [
            {fn _facts -> raise "oh" end, "** (RuntimeError) oh"},
            {fn _facts -> throw(:ball) end, "** (throw) :ball"},
            {fn _facts -> exit(:gone) end, "** (exit) :gone"}
          ] do
        report = Doctor.run(Machine.well(tmp, info: answer), [@first])

        assert report.entries == [
                 {@first,
                  Outcome.error("the check itself failed", next, details: [{"reason", reason}])}
               ]
      end
    end
  end
end
