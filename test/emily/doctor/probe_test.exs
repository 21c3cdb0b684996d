defmodule Emily.Doctor.ProbeTest do
  # Loads the native library into this VM, and times it.
  use ExUnit.Case, async: false

  alias Emily.Doctor.Probe

  @moduletag :native

  setup_all do
    assert Probe.load() == :ok
    :ok
  end

  test "asks the library what it is" do
    assert {:ok, %{mlx: mlx, devices: [:cpu | _rest]} = info} = Probe.info()
    assert Version.match?(mlx, "> 0.0.0")
    assert map_size(info) == 2
  end

  test "computes the same on every device" do
    {:ok, %{devices: devices}} = Probe.info()
    for device <- devices, do: assert({:ok, {[71.0, 92.0], [71.0, 92.0]}} = Probe.smoke(device))
  end

  test "answers with the library's own words when it refuses" do
    assert {:error, reason} = Probe.smoke(:tpu)
    assert is_binary(reason) and reason != ""
  end

  test "measures both rates" do
    assert %{matmul: matmul, elementwise: elementwise} = Probe.matmul_rates()
    assert matmul > 0.0 and elementwise > 0.0
  end
end
