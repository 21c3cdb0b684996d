Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.RuntimeTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Runtime, Machine, Outcome}

  @moduletag :tmp_dir

  test "compares Elixir and OTP with what the package needs", %{tmp_dir: tmp} do
    elixir = "install a newer Elixir: https://elixir-lang.org/install.html"
    otp = "install a newer Erlang/OTP: https://www.erlang.org/downloads"

    cases = [
      {"1.18.0", "27", Outcome.ok("Elixir 1.18.0, OTP 27, NIF 2.17")},
      {"1.19.0-rc.0", "28-rc3", Outcome.ok("Elixir 1.19.0-rc.0, OTP 28-rc3, NIF 2.17")},
      {"1.17.3", "27", Outcome.error("expected Elixir ~> 1.18, got: 1.17.3", elixir)},
      {"1.18.3", "26", Outcome.error("expected Erlang/OTP 27 or newer, got: 26", otp)}
    ]

    for {elixir, otp, expected} <- cases do
      machine = Machine.well(tmp, elixir: elixir, host: %{Machine.host() | otp: otp})
      assert Runtime.run(machine, %{}) == expected
    end
  end
end
