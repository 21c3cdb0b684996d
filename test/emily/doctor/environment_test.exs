defmodule Emily.Doctor.EnvironmentTest do
  # Reads what the other tests never ask for: this very machine.
  use ExUnit.Case, async: true

  alias Emily.Doctor.Environment

  test "knows this machine without loading the native library" do
    environment = Environment.host()

    assert environment.version == Mix.Project.config()[:version]
    assert environment.elixir == System.version()
    assert environment.host.otp == System.otp_release()
    assert environment.priv == Path.join(Mix.Project.app_path(), "priv")
    assert environment.checkout?
    assert environment.reinstall == "cargo xtask nif"
    assert {:ok, _cache} = environment.cache
  end
end
