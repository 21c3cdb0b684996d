defmodule Emily.Artifact.HostTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.Host

  # A machine made of files and commands; whatever it does not have is missing.
  defp machine(parts) do
    files = Map.new(parts[:files] || %{})
    commands = Map.new(parts[:commands] || %{})
    folders = Map.new(parts[:folders] || %{})

    %{
      os_type: parts[:os_type] || {:unix, :linux},
      architecture: parts[:architecture] || "x86_64-pc-linux-gnu",
      nif: "2.17",
      otp: "27",
      variables: Map.new(parts[:variables] || %{}),
      command: fn program, arguments ->
        case commands do
          %{^program => {^arguments, output}} -> {:ok, output}
          _missing -> :error
        end
      end,
      read: fn path -> with :error <- Map.fetch(files, path), do: {:error, :enoent} end,
      list: fn path -> with :error <- Map.fetch(folders, path), do: {:error, :enoent} end,
      cuda_paths: parts[:cuda_paths] || []
    }
  end

  @machines [
    {{:unix, :linux}, "x86_64-pc-linux-gnu", "linux-x86_64"},
    {{:unix, :linux}, "aarch64-unknown-linux-gnu", "linux-arm64"},
    {{:unix, :linux}, "riscv64-unknown-linux-gnu", nil},
    {{:unix, :darwin}, "aarch64-apple-darwin24.1.0", "macos-arm64"},
    {{:unix, :darwin}, "arm64-apple-darwin24.1.0", "macos-arm64"},
    {{:unix, :darwin}, "x86_64-apple-darwin24.1.0", nil},
    {{:unix, :freebsd}, "amd64-portbld-freebsd14.1", nil},
    {{:win32, :nt}, "win32", nil}
  ]

  for {os_type, architecture, target} <- @machines do
    test "#{architecture} is #{inspect(target)}" do
      machine = machine(os_type: unquote(os_type), architecture: unquote(architecture))
      assert Host.target(machine) == unquote(target)
      assert Host.detect(machine).target == unquote(target)
    end
  end

  @cache """
  3 libs found in cache `/etc/ld.so.cache'
  \tlibm.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => /lib/x86_64-linux-gnu/libm.so.6
  \tlibonly32.so.1 (libc6) => /lib/i386-linux-gnu/libonly32.so.1
  \tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1
  """

  test "Linux is known by the libraries that the VM runs on" do
    host =
      Host.detect(
        machine(
          files: %{
            "/proc/self/maps" => """
            7f-80 r--p 00000000 fe:00 1  /opt/lib/libc.so.6
            7f-80 r--p 00000000 fe:00 2  /opt/lib/libstdc++.so.6.0.33
            7f-80 r--p 00000000 00:00 0  [vdso]
            """,
            "/opt/lib/libc.so.6" =>
              "\0GLIBC_2.39\0GNU C Library (Debian GLIBC 2.41-12) stable release version 2.41.\n",
            "/opt/lib/libstdc++.so.6.0.33" =>
              "\0GLIBCXX_3.4.9\0GLIBCXX_3.4.33\0GLIBCXX_DEBUG\0GLIBCXX_3.4.30\0"
          },
          commands: %{"ldconfig" => {["-p"], @cache}},
          folders: %{"/opt/lib" => ["libdl.so.2", "README"], "/cuda" => ["libcudnn.so.9"]},
          variables: %{"LD_LIBRARY_PATH" => "/cuda:"}
        )
      )

    assert %{glibc: "2.41", glibcxx: "3.4.33", macos: nil, nif: "2.17", otp: "27"} = host
    assert Host.library(host, "libc.so.6") == "/opt/lib/libc.so.6"
    assert Host.library(host, "libcuda.so.1") == "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    assert Host.library(host, "libcudnn.so.9") == "/cuda/libcudnn.so.9"
    assert Host.library(host, "libdl.so.2") == "/opt/lib/libdl.so.2"
    assert Host.library(host, "libonly32.so.1") == nil
    assert Host.library(host, "README") == nil
  end

  test "what is in CUDA's folders is found, from the first of them" do
    host =
      Host.detect(
        machine(
          cuda_paths: ["/venv/nvidia", "/usr/local/cuda"],
          folders: %{
            "/venv/nvidia" => ["cudnn", "cu13"],
            "/venv/nvidia/cudnn/lib" => ["libcudnn.so.9"],
            "/venv/nvidia/cu13/lib" => ["libnvrtc.so.13"],
            "/usr/local/cuda/lib64" => ["libcudnn.so.9", "libcufft.so.12"]
          }
        )
      )

    assert host.libraries == %{
             "libcudnn.so.9" => "/venv/nvidia/cudnn/lib/libcudnn.so.9",
             "libnvrtc.so.13" => "/venv/nvidia/cu13/lib/libnvrtc.so.13",
             "libcufft.so.12" => "/usr/local/cuda/lib64/libcufft.so.12"
           }
  end

  test "Linux without glibc has neither version" do
    maps = "7f-80 r--p 00000000 fe:00 1  /lib/ld-musl-x86_64.so.1\n"
    assert %{glibc: nil, glibcxx: nil} = Host.detect(machine(files: %{"/proc/self/maps" => maps}))
  end

  test "macOS tells its version" do
    parts = [os_type: {:unix, :darwin}, architecture: "aarch64-apple-darwin24.1.0"]
    commands = %{"sw_vers" => {["-productVersion"], "15.1.1\n"}}
    assert Host.detect(machine([commands: commands] ++ parts)).macos == "15.1.1"
    assert Host.detect(machine(parts)).macos == nil
  end

  test "this very machine is known" do
    host = Host.detect()
    assert host.otp == System.otp_release()
    assert host.nif == List.to_string(:erlang.system_info(:nif_version))

    if host.os == "linux",
      do: assert(is_binary(Host.library(host, "libm.so.6")) or host.glibc == nil)
  end
end
