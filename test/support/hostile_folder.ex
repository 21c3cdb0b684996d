defmodule Emily.Test.HostileFolder do
  @moduledoc """
  Folders that refuse to be written to, which only root can make.

  Where this test run cannot make them, `problem/0` says why, as the reason of an ExUnit skip.
  """

  @doc "Why no such folder can be made here, or nil."
  def problem do
    cond do
      Emily.Artifact.Cache.user_id() != 0 ->
        "only root can mount a small file system and give a folder away; run the tests as root"

      match?({:unix, :linux}, :os.type()) ->
        mount_problem()

      true ->
        "tmpfs is known to be mountable on Linux only"
    end
  end

  defp mount_problem do
    folder = Path.join(System.tmp_dir!(), "emily-mount-#{System.pid()}")
    File.mkdir_p!(folder)

    try do
      case mount(folder, "size=64k") do
        {_output, 0} -> unmount(folder)
        {output, _status} -> "tmpfs cannot be mounted here: #{String.trim(output)}"
      end
    after
      File.rmdir(folder)
    end
  end

  @doc "Mounts a file system of so many KiB on a folder, until the test ends."
  def small(folder, kibibytes) do
    File.mkdir_p!(folder)
    {_output, 0} = mount(folder, "size=#{kibibytes}k,mode=700")
    ExUnit.Callbacks.on_exit(fn -> unmount(folder) end)
  end

  @doc "Makes a folder that `small/2` mounted larger."
  def enlarge(folder, kibibytes), do: remount(folder, "size=#{kibibytes}k")

  @doc "Makes a folder that `small/2` mounted read-only, or writable again."
  def read_only(folder), do: remount(folder, "ro")
  def writable(folder), do: remount(folder, "rw")

  defp mount(folder, options) do
    System.cmd("mount", ["-t", "tmpfs", "-o", options, "tmpfs", folder], stderr_to_stdout: true)
  end

  defp remount(folder, options) do
    {_output, 0} =
      System.cmd("mount", ["-o", "remount,#{options}", folder], stderr_to_stdout: true)

    :ok
  end

  defp unmount(folder) do
    System.cmd("umount", ["-l", folder], stderr_to_stdout: true)
    nil
  end
end
